"""Phantoms with known truth, a simulated modality and a simulated PACS: for the demo, site acceptance and tests."""
