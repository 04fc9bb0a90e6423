"""What the node reads of a data set while it passes by: identifiers, a few attributes, and whether it is whole."""
