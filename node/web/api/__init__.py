"""The API of programs, /api/v1: all that the command line can do."""
