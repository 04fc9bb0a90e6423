"""All that is known of the cases, found by any of their names."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from node.errors import TruthInvalid
from workers.evaluation.case import Case
from workers.evaluation.truth import Truth, join_truths
from workers.evaluation.truth_files import Filed, read_truth_file
from workers.evaluation.truth_table import read_truth_table

TABLE_SUFFIX = ".csv"


class TruthBook:
    """Truth by name.

    Parameters
    ----------
    unlisted_are_healthy
        Whether a case without an entry holds nothing; else it is not judged.
    """

    def __init__(self, filed: Iterable[Filed], *, unlisted_are_healthy: bool = False) -> None:
        self._by_name: dict[str, list[Truth]] = defaultdict(list)
        for names, truth in filed:
            for name in names:
                self._by_name[name].append(truth)
        self._unlisted_are_healthy = unlisted_are_healthy

    def find(self, case: Case) -> Truth | None:
        """Return what is known of a case; None where nothing is."""
        if case.truth is not None:
            return case.truth
        found = [truth for name in sorted(case.names & self._by_name.keys()) for truth in self._by_name[name]]
        if found:
            return join_truths(found)
        return Truth(lesions=lambda _: ()) if self._unlisted_are_healthy else None


def open_truth(path: Path | None, *, label: str = "", unlisted_are_healthy: bool = False) -> TruthBook:
    """Return the truth that a CSV file, a mask, a SEG, an SR or a folder of these holds; masks are read when asked for.

    Raises
    ------
    TruthInvalid
        If it does not exist, holds none, or something that cannot be read.
    """
    if path is None:
        return TruthBook(())
    if not path.exists():
        raise TruthInvalid(f"--truth {path} does not exist; name a CSV file, or a folder of masks, SEG or SR")
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    filed: list[Filed] = []
    for file in files:
        if file.suffix.lower() == TABLE_SUFFIX:
            filed += read_truth_table(file, label=label)
        elif (one := read_truth_file(file, label=label)) is not None:
            filed.append(one)
    if not filed:
        raise TruthInvalid(f"--truth {path} holds no truth; give CSV, NIfTI, npz, DICOM SEG or SR")
    return TruthBook(filed, unlisted_are_healthy=unlisted_are_healthy)
