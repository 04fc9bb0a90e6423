"""What was measured: read back from a worker, told, and kept as a section of a page."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from node.errors import Broken, NotFound
from node.settings.whole import Settings
from node.workforce import spawn_worker

# Of the checkout in which a benchmark is run.
PAGE = Path("docs/benchmarks.md")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one Subject took.

    Attributes
    ----------
    min_s, median_s
        Over all rounds.
    size_bytes
        What it made; None where it made nothing.
    """

    name: str
    min_s: float
    median_s: float
    size_bytes: int | None

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """Name, shortest and middle time in seconds, and size, as people read them."""
        size = "" if self.size_bytes is None else f"{self.size_bytes:,}"
        return self.name, f"{self.min_s:.3f}", f"{self.median_s:.3f}", size


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Subjects that were measured in turn, and may be compared with each other."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """How many times faster one Subject is than another, by their medians."""

    name: str
    times_faster: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What was promised of a figure, and what was measured; one of the two limits is given."""

    what: str
    measured: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """Name, limit, figure, and whether it holds, as people read them."""
        limit = f"≤ {self.at_most:g}" if self.at_least is None else f"≥ {self.at_least:g}"
        return self.what, limit, f"{self.measured:.3g}", "yes" if self.is_held else "NO"

    @property
    def is_held(self) -> bool:
        """Whether the figure is within its limit."""
        too_low = self.at_least is not None and self.measured < self.at_least
        return not too_low and (self.at_most is None or self.measured <= self.at_most)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchReport:
    """What a benchmark measured.

    Attributes
    ----------
    unit
        Which seconds they are, such as ``CPU seconds``.
    versions
        Of Python and of the libraries that were measured.
    targets
        What was promised of these figures.
    """

    bench: str
    rounds: int
    unit: str
    tables: tuple[Table, ...]
    ratios: tuple[Ratio, ...]
    versions: Mapping[str, str]
    targets: tuple[Target, ...] = ()


def run_in_worker(settings: Settings, bench: str, *, rounds: int) -> BenchReport:
    """Run a benchmark of the worker's stages in a worker of its own.

    Raises
    ------
    Broken
        If the worker ends with an error.
    """
    with tempfile.TemporaryDirectory(prefix="radnode-bench-") as folder:
        out = Path(folder) / "measured.json"
        process = spawn_worker(settings, ("bench", bench, "--rounds", str(rounds), "--out", str(out)))
        if process.wait() != 0:
            raise Broken(f"the benchmark {bench} ended with an error; its log is on standard error")
        return read_report(json.loads(out.read_text(encoding="utf-8")))


def read_report(measured: Mapping[str, Any]) -> BenchReport:
    """Return a report from the JSON that a worker wrote."""
    return BenchReport(
        bench=measured["bench"],
        rounds=measured["rounds"],
        unit=measured["unit"],
        tables=tuple(
            Table(title=table["title"], rows=tuple(Row(**row) for row in table["rows"])) for table in measured["tables"]
        ),
        ratios=tuple(Ratio(**ratio) for ratio in measured["ratios"]),
        versions=measured["versions"],
        targets=tuple(Target(**target) for target in measured.get("targets", ())),
    )


def describe_report(report: BenchReport, command: str) -> str:
    """Return a report in Markdown, with the command that made it."""
    libraries = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    lines = [f"`{command}`: {report.unit}, {report.rounds} rounds in turn after one that does not count; {libraries}."]
    for table in report.tables:
        lines += ["", f"| {table.title} | min | median | bytes |", "| --- | ---: | ---: | ---: |"]
        lines += [f"| {' | '.join(row.cells)} |" for row in table.rows]
    lines += ["", "| by the medians | times faster |", "| --- | ---: |"]
    lines += [f"| {ratio.name} | {ratio.times_faster:.3g} |" for ratio in report.ratios]
    lines += ["", describe_targets(report.targets)] if report.targets else []
    return "\n".join(lines)


def to_markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows under their header as a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def describe_targets(targets: Sequence[Target]) -> str:
    """Return targets as a Markdown table."""
    return to_markdown(("target", "promised", "measured", "held"), [target.cells for target in targets])


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of all are not above.

    Parameters
    ----------
    values
        Sorted, not empty.
    share
        0-1; 0.99 for p99.
    """
    return values[max(ceil(share * len(values)) - 1, 0)]


def refresh_section(page: Path, bench: str, section: str) -> None:
    """Put a section between the markers of its benchmark, which are added at the end of a page without them.

    Raises
    ------
    NotFound
        If the page does not exist.
    """
    begin, end = f"<!-- bench {bench} -->", f"<!-- end of bench {bench} -->"
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as exc:
        raise NotFound(f"{page} cannot be read ({exc.strerror}); run this in a checkout of radnode") from exc
    if begin not in text or end not in text:
        text = f"{text.rstrip()}\n\n{begin}\n{end}\n"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{begin}\n{section}\n{end}{after}", encoding="utf-8")
