"""Settings: shipped defaults < operator's file < environment; checked, frozen, passed down."""
