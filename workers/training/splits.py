"""Patients held apart: who is learned from, who sets thresholds, who is only reported on, and who is never touched."""

import json
import random
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Patients by use; no patient is in two of them.

    Attributes
    ----------
    train, tune, held
        Patient keys to learn from, to set thresholds on, and to report numbers on.
    """

    train: frozenset[str]
    tune: frozenset[str]
    held: frozenset[str]

    def write(self, path: Path) -> None:
        """Write the keys of each part as JSON: the proof of what was learned from."""
        parts = {"train": sorted(self.train), "tune": sorted(self.tune), "held": sorted(self.held)}
        path.write_text(json.dumps(parts, indent=1) + "\n", encoding="utf-8")


def read_exclusions(path: Path, *, data_set: str) -> frozenset[str]:
    """Return the patient keys of one data set that must never be trained on.

    Parameters
    ----------
    path
        Text: one ``<data set> <patient key>`` a line; ``#`` starts a comment.
    """
    lines = (line.split("#")[0].split() for line in path.read_text(encoding="utf-8").splitlines())
    return frozenset(words[1] for words in lines if len(words) == 2 and words[0] == data_set)


def split_patients(patients: Iterable[str], *, excluded: Collection[str], tune: int, held: int, seed: int) -> Split:
    """Deal patients at random to three uses; excluded ones to none.

    Parameters
    ----------
    tune, held
        How many patients set thresholds, and how many are only reported on.
    """
    keys = sorted(set(patients) - set(excluded))
    random.Random(seed).shuffle(keys)  # noqa: S311 - a split, not a secret
    return Split(
        held=frozenset(keys[:held]),
        tune=frozenset(keys[held : held + tune]),
        train=frozenset(keys[held + tune :]),
    )
