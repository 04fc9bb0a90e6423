"""`python -m tests.soak`: do deeds to a node of its own, and say whether it kept its promises."""

import argparse
import random
import shutil
import signal
import sys
import warnings
from pathlib import Path

from node.benchmark.report import refresh_section
from tests.soak.report import describe, list_wrongs
from tests.soak.run import soak

PAGE = Path("docs/reliability.md")
# Emptied before each run.
FOLDER = Path("build/soak")
TERMINATED = 128 + signal.SIGTERM


def say(text: str) -> None:
    """Write a line, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Return 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="of deeds; load without deeds comes after them")
    parser.add_argument("--seed", type=int, help="of Studies and deeds; random unless given, and always printed")
    parser.add_argument("--write", action="store_true", help=f"keep the summary in {PAGE}")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(1, 10**6) if given.seed is None else given.seed
    command = f"python -m tests.soak --minutes {given.minutes:g} --seed {seed}"
    # pydicom says what it finds odd in a name or a number.
    warnings.simplefilter("ignore")
    say(command)
    # So that nothing is left running, or mounted.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    outcome = soak(FOLDER.resolve(), seed=seed, minutes=given.minutes, say=say)
    section = describe(outcome, command)
    say(f"\n{section}")
    for line in list_wrongs(outcome.verdicts):
        say(line)
    say(f"The node's log and the modalities' books are in {FOLDER}; so are its data, if a promise was broken.")
    if given.write:
        refresh_section(PAGE, "soak", section)
    return 0 if outcome.is_held else 1


if __name__ == "__main__":
    sys.exit(main())
