"""How good a Pipeline is on Studies with known truth: metrics with intervals, tables, pictures and a page."""
