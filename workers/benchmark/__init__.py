"""How much CPU time the worker's stages take, on invented Series of a known size."""
