"""How another system is spoken to as the one who calls: Associations, their messages, and requests by HTTP."""
