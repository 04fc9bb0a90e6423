"""Command line of a worker: `python -m workers`; people use `radnode worker`."""

import argparse
import sys
from pathlib import Path

from node.children import end_with_parent
from node.errors import Misconfigured, NodeError
from node.logs import configure_logging
from node.settings import load_settings

EXIT_FAILURE = 1
EXIT_USAGE = 2


def main() -> int:
    """Run a worker; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m workers", description="Run radnode Jobs.")
    parser.add_argument("--settings", type=Path, help="settings file, as for `radnode up`")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--processes", type=int, default=1, help="Jobs at a time")
    parser.add_argument("--drain", action="store_true", help="run what waits in the ledger, without a broker, then end")
    parser.add_argument("--ends-with-parent", action="store_true", help="stop when the starting process dies")
    arguments = parser.parse_args()
    if arguments.ends_with_parent:
        end_with_parent()
    try:
        settings = load_settings(arguments.settings)
        configure_logging(settings.log.level)
        if arguments.drain:
            # Keeps torch out of the parent of a process pool.
            from workers.app import build_runner

            build_runner(settings, arguments.device).run_all()
            return 0
        from workers.tasks import serve_jobs

        return serve_jobs(settings, device=arguments.device, processes=arguments.processes)
    except NodeError as exc:
        sys.stderr.write(f"radnode worker: {exc}\n")
        return EXIT_USAGE if isinstance(exc, Misconfigured) else EXIT_FAILURE


if __name__ == "__main__":
    sys.exit(main())
