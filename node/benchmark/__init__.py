"""Measurements beside other programs, on one machine and in turns, because figures from two days cannot be compared."""
