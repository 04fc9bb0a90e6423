"""The AI routines, one file each."""
