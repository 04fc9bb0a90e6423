"""A soak: a node at work for long while its processes are killed, its broker forgets, its disk fills, its PACS goes."""
