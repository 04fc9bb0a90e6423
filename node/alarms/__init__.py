"""Alarms: what is watched, what is wrong for how long, and who is told."""
