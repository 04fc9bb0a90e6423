"""Whether an Instance that came again says what it said before: another station's answer depends on it."""
