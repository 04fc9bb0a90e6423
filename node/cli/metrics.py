"""`radnode metrics`: the numbers that Prometheus reads, once."""

import sys

from node.cli.context import SettingsOption, read_settings
from node.cli.output import reports_errors
from node.ledger.opening import find_ledger
from node.metrics.exposition import render_metrics


@reports_errors
def metrics(*, settings: SettingsOption = None) -> None:
    """Print the metrics in the text format of Prometheus, whether or not the node runs."""
    loaded = read_settings(settings)
    sys.stdout.write(render_metrics(loaded, find_ledger(loaded)).decode())
