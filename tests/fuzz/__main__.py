"""`python -m tests.fuzz`: run cases against a node of its own, and tell what it did wrong."""

import argparse
import logging
import random
import sys
import tempfile
from pathlib import Path

from tests.fuzz.campaign import Campaign, Outcome
from tests.fuzz.cases import Maker
from tests.fuzz.templates import load_templates
from tests.node_process import Launch, NodeProcess
from tests.storing import RULE_OF_NOTHING

NODE_KEYS = "max_associations = 200\nmax_associations_per_peer = 200\n"
SETTINGS = f'durability = "none"\n{RULE_OF_NOTHING}'


def run(folder: Path, *, seed: int, first: int, cases: int, connections: int) -> Outcome:
    """Return what became of so many cases against a new node in `folder`."""
    maker = Maker(seed, load_templates())
    with NodeProcess(folder, SETTINGS, node_keys=NODE_KEYS, launch=Launch(verb="serve")) as node:
        return Campaign(node, maker, connections=connections).run(first, cases)


def report(outcome: Outcome, seed: int) -> str:
    """Return what came of it, and how to repeat what was found."""
    lines = [f"{count:8}  {answer}" for answer, count in sorted(outcome.answers.items())]
    for finding in outcome.findings:
        lines.append(f"FOUND {finding.text}")
        lines.append(f"  repeat: python -m tests.fuzz --seed {seed} --first {finding.first} --cases {finding.count}")
    rate = outcome.cases / outcome.seconds if outcome.seconds else 0.0
    lines.append(
        f"{outcome.cases} cases in {outcome.seconds:.0f} s ({rate:.0f}/s), {outcome.kept} acknowledged and read again, "
        f"{len(outcome.findings)} findings; seed {seed}"
    )
    return "\n".join(lines)


def say(text: str) -> None:
    """Write a line, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Return 1 when something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, help="of the run; random unless given, and always printed")
    parser.add_argument("--connections", type=int, default=16, help="at a time")
    parser.add_argument("--folder", type=Path, help="keep the node's data and log there")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(1, 10**6) if given.seed is None else given.seed
    # pydicom logs what it finds odd.
    logging.disable(logging.CRITICAL)
    say(f"seed {seed}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        outcome = run(folder, seed=seed, first=given.first, cases=given.cases, connections=given.connections)
    say(report(outcome, seed))
    return 1 if outcome.findings else 0


if __name__ == "__main__":
    sys.exit(main())
