"""The queue of record: what the node knows, and every change of it."""
