"""The warm AI workers of radnode."""
