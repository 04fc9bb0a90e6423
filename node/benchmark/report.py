"""What was measured: read back from a worker, told, and kept as a section of a page."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.app import spawn_worker
from node.errors import Broken, NotFound
from node.settings import Settings


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
class BenchReport:
    """What a benchmark measured.

    Attributes
    ----------
    unit
        Which seconds they are, such as ``CPU seconds``.
    versions
        Of Python and of the libraries that were measured.
    """

    bench: str
    rounds: int
    unit: str
    tables: tuple[Table, ...]
    ratios: tuple[Ratio, ...]
    versions: Mapping[str, str]


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
    )


def describe_report(report: BenchReport, command: str) -> str:
    """Return a report in Markdown, with the command that made it."""
    libraries = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    lines = [f"`{command}`: {report.unit}, {report.rounds} rounds in turn after one that does not count; {libraries}."]
    for table in report.tables:
        lines += ["", f"| {table.title} | min | median | bytes |", "| --- | ---: | ---: | ---: |"]
        lines += [f"| {' | '.join(row.cells)} |" for row in table.rows]
    lines += ["", "| by the medians | times faster |", "| --- | ---: |"]
    lines += [f"| {ratio.name} | {ratio.times_faster:.1f} |" for ratio in report.ratios]
    return "\n".join(lines)


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
