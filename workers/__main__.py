"""Command line of a worker: `python -m workers`; people use `radnode worker`."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from node.children import end_with_parent
from node.errors import Misconfigured, NodeError
from node.logs import configure_logging
from node.settings.loading import load_settings
from node.settings.whole import Settings
from workers.benchmark.parts import known_parts, measure_part
from workers.post import make_post, usual_processes

EXIT_FAILURE = 1
EXIT_USAGE = 2
# Of all models that never were calibrated, when a worker starts; what is left then is calibrated at the next start.
CALIBRATION_S = 600.0
HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
WAITING = "OMP_WAIT_POLICY"
UNTITLED = "NOSETPS"

Arguments = argparse.Namespace
Verb = Callable[[Arguments, Settings], int]


def main() -> int:
    """Run a worker; returns its exit code."""
    arguments = _build_parser().parse_args()
    if arguments.ends_with_parent is not None:
        end_with_parent(arguments.ends_with_parent)
    verb: Verb = arguments.verb
    # Read by torch when it is loaded. A volume is a hundred megabytes, and of small pages half of each pass over it is
    # the kernel's.
    os.environ.setdefault(HUGE_PAGES, "1")
    # Read by OpenMP then. Threads that wait for each other by turning round and round hold the core that the one they
    # wait for would need: beside two other processes on two cores a U-Net took 18 times as long.
    os.environ.setdefault(WAITING, "PASSIVE")
    # Read by Celery when it is loaded. By its own command line people, and the node's metrics, know a worker.
    os.environ.setdefault(UNTITLED, "1")
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
    parser.add_argument(
        "--ends-with-parent", type=int, metavar="PID", help="stop when the process that started it dies"
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    serve = verbs.add_parser("serve", help="run Jobs as the broker rings, until SIGTERM")
    serve.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    serve.add_argument("--processes", type=int, help="Jobs at a time; unless given, what suits the device")
    serve.add_argument("--warm", action="store_true", help="load and try every Pipeline before the first Job")
    serve.set_defaults(verb=_serve)
    calibrate = verbs.add_parser("calibrate", help="find the fastest layout of each model's networks here, then end")
    calibrate.add_argument("models", nargs="*", metavar="MODEL", help="unless given, those of all Pipelines")
    calibrate.add_argument("--missing", action="store_true", help="only where none was found before")
    calibrate.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    calibrate.add_argument("--processes", type=int, help="as for serve: what they share is not one's own")
    calibrate.set_defaults(verb=_calibrate)
    drain = verbs.add_parser("drain", help="run what waits in a ledger that does not last, without a broker, then end")
    drain.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    drain.set_defaults(verb=_drain)
    retract = verbs.add_parser("retract", help="write what pending retractions ask for, then end")
    retract.set_defaults(verb=_retract)
    check = verbs.add_parser("check", help="prove objects of anybody against their originals, then end")
    check.add_argument("folder", type=Path, help="where the objects lie, or one file")
    check.add_argument("--originals", type=Path, required=True, help="where the images lie that they speak of")
    check.add_argument("--json", action="store_true", dest="as_json", help="print JSON instead of lines")
    check.set_defaults(verb=_check)
    convert = verbs.add_parser("convert", help="write weights of others as safetensors, without running them, then end")
    convert.add_argument("source", type=Path, help="state dict or pickled module, as torch saves it")
    convert.add_argument("target", type=Path, help="where the safetensors go")
    convert.set_defaults(verb=_convert)
    bench = verbs.add_parser("bench", help="measure what a part of the worker costs, then end")
    bench.add_argument("part", choices=known_parts())
    bench.add_argument("--rounds", type=int, required=True, help="how often each Subject is measured")
    bench.add_argument("--out", type=Path, required=True, help="where the measurements go, as JSON")
    bench.set_defaults(verb=_bench)
    evaluate = verbs.add_parser("evaluate", help="measure a model on cases whose truth is known, then end")
    evaluate.add_argument("order", type=Path, help="what `radnode evaluate` wants measured, as JSON")
    evaluate.set_defaults(verb=_evaluate)
    return parser


# Each verb imports what it needs by itself: torch alone takes a second.


def _serve(arguments: Arguments, settings: Settings) -> int:
    from workers.tasks import serve_jobs

    processes = arguments.processes or usual_processes(arguments.device)
    if arguments.warm:
        _calibrate_before(arguments, settings, processes)
    return serve_jobs(settings, make_post(arguments.device, processes=processes, warms=arguments.warm))


def _calibrate_before(arguments: Arguments, settings: Settings, processes: int) -> None:
    """Calibrate what never was, in a process that ends: the pool's must not, together they would time each other."""
    command = [sys.executable, "-m", "workers", "--ends-with-parent", str(os.getpid()), "calibrate", "--missing"]
    command += ["--device", arguments.device, "--processes", str(processes)]
    try:
        # What failed is told by it, and costs a Layout and nothing else.
        subprocess.run(command, env={**os.environ, **settings.as_environment()}, check=False, timeout=CALIBRATION_S)
    except subprocess.TimeoutExpired:
        sys.stderr.write(f"radnode worker: calibrating was ended after {CALIBRATION_S:.0f} s; the rest stays plain\n")


def _calibrate(arguments: Arguments, settings: Settings) -> int:
    from workers.calibration import calibrate_models

    processes = arguments.processes or usual_processes(arguments.device)
    post = make_post(arguments.device, processes=processes)
    failures = calibrate_models(settings, post, models=arguments.models, only_missing=arguments.missing)
    return EXIT_FAILURE if failures else 0


def _drain(arguments: Arguments, settings: Settings) -> int:
    from workers.app import build_runner

    runner = build_runner(settings, make_post(arguments.device), dates_by_inputs=True)
    runner.run_all()
    return os.EX_TEMPFAIL if runner.is_spent else 0


def _retract(_arguments: Arguments, settings: Settings) -> int:
    from workers.app import build_registry
    from workers.retraction import carry_out_retractions

    failures = carry_out_retractions(build_registry(settings))
    for failure in failures:
        sys.stderr.write(f"radnode: {failure.code}: {failure}\n")
    return EXIT_FAILURE if failures else 0


def _bench(arguments: Arguments, _settings: Settings) -> int:
    measured = measure_part(arguments.part, rounds=arguments.rounds)
    arguments.out.write_text(json.dumps(measured), encoding="utf-8")
    return 0


def _evaluate(arguments: Arguments, _settings: Settings) -> int:
    from workers.evaluation.run import run_evaluation

    run_evaluation(arguments.order)
    return 0


def _convert(arguments: Arguments, _settings: Settings) -> int:
    from workers.inference.conversion import convert_weights

    convert_weights(arguments.source, arguments.target)
    return 0


def _check(arguments: Arguments, _settings: Settings) -> int:
    from workers.inspection import run_inspection

    return run_inspection(arguments.folder, arguments.originals, as_json=arguments.as_json)


if __name__ == "__main__":
    sys.exit(main())
