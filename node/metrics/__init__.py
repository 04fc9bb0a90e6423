"""Metrics: what the ledger holds and has counted, in the text format of Prometheus."""
