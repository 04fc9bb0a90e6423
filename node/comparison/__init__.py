"""Whether an Instance that came again says what it said before, whatever it is encoded in."""
