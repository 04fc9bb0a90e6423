"""Slices out of files of the store, by what the ledger knows of them: read as they lie, or decoded in a cage."""
