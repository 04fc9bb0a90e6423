"""What every pipeline needs to run a network."""
