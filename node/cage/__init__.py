"""Processes that may die of what they read: how they are started, asked, bounded and ended."""
