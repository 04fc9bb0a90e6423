"""How the node asks other systems for what it lacks: how much of a Study there is, orders, Studies, priors."""
