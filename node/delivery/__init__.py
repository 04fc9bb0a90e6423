"""How Results leave the node."""
