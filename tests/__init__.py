"""Tests: unit mirrors the tree; integration and acceptance run the real thing."""
