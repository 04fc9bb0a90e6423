"""Command line of a worker: `python -m workers`; people use `radnode worker`."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from node.children import end_with_parent
from node.errors import Misconfigured, NodeError
from node.logs import configure_logging
from node.settings import Settings, load_settings

EXIT_FAILURE = 1
EXIT_USAGE = 2

Arguments = argparse.Namespace
Verb = Callable[[Arguments, Settings], int]


def main() -> int:
    """Run a worker; returns its exit code."""
    arguments = _build_parser().parse_args()
    if arguments.ends_with_parent:
        end_with_parent()
    verb: Verb = arguments.verb
    try:
        settings = load_settings(arguments.settings)
        configure_logging(settings.log.level)
        return verb(arguments, settings)
    except NodeError as exc:
        sys.stderr.write(f"radnode worker: {exc}\n")
        return EXIT_USAGE if isinstance(exc, Misconfigured) else EXIT_FAILURE


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workers", description="Run radnode Jobs.")
    parser.add_argument("--settings", type=Path, help="settings file, as for `radnode up`")
    parser.add_argument("--ends-with-parent", action="store_true", help="stop when the starting process dies")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    serve = verbs.add_parser("serve", help="run Jobs as the broker rings, until SIGTERM")
    serve.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    serve.add_argument("--processes", type=int, default=1, help="Jobs at a time")
    serve.set_defaults(verb=_serve)
    drain = verbs.add_parser("drain", help="run what waits in the ledger, without a broker, then end")
    drain.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    drain.set_defaults(verb=_drain)
    return parser


# Each verb imports what it needs by itself: the parent of a process pool must not have used torch.


def _serve(arguments: Arguments, settings: Settings) -> int:
    from workers.tasks import serve_jobs

    return serve_jobs(settings, device=arguments.device, processes=arguments.processes)


def _drain(arguments: Arguments, settings: Settings) -> int:
    from workers.app import build_runner

    build_runner(settings, arguments.device).run_all()
    return 0


if __name__ == "__main__":
    sys.exit(main())
