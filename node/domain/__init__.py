"""The nouns of radnode, in plain data: stdlib and pydicom only."""
