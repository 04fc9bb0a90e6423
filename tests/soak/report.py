"""A soak as people read it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

from node.benchmark.report import to_markdown
from tests.soak.census import Role
from tests.soak.judgment import TOLD, Verdict
from tests.soak.run import Outcome
from tests.soak.watch import Life

MIB = 2**20
# A process is warm by then; one that lived twice as long has a slope.
WARM_S = 20.0


def describe(outcome: Outcome, command: str) -> str:
    """Return a soak in Markdown, with the command that made it."""
    disturbed_s, undisturbed_s, calm_s = outcome.seconds
    begin = (
        f"`{command}`: deeds for {disturbed_s / 60:.0f} minutes, the same load without deeds for "
        f"{undisturbed_s / 60:.0f} more, everything at its end {calm_s:.0f} s later."
    )
    disk = "" if outcome.has_disk else " No volume could be mounted: the disk was not filled."
    parts = [
        begin + disk,
        to_markdown(("promise", "held", "judged by"), [_row(verdict) for verdict in outcome.verdicts]),
        to_markdown(("deed", "times"), _counted(outcome.deeds)),
        to_markdown(
            (
                "process",
                "lives",
                "PSS, middle, MiB",
                "PSS, most, MiB",
                "slope, MiB a minute",
                "descriptors, most",
                "threads, most",
            ),
            _footprints(outcome.lives),
        ),
    ]
    if outcome.statuses:
        parts.append(to_markdown(("Status other than Success", "times"), _counted(outcome.statuses)))
    if outcome.faults:
        parts.append(to_markdown(("tracebacks in the log", "times"), _counted(outcome.faults)))
    return "\n\n".join(parts)


def list_wrongs(verdicts: Sequence[Verdict]) -> list[str]:
    """Return a line for each case in which a promise was broken, of many alike the first."""
    lines = []
    for verdict in verdicts:
        lines += [f"BROKEN {verdict.promise}: {wrong}" for wrong in verdict.wrongs[:TOLD]]
        if len(verdict.wrongs) > TOLD:
            lines.append(f"BROKEN {verdict.promise}: {len(verdict.wrongs) - TOLD} more")
    return lines


def _row(verdict: Verdict) -> tuple[str, str, str]:
    held = "yes" if verdict.is_held else f"NO: {len(verdict.wrongs)} cases"
    return verdict.promise, held, verdict.figure


def _counted(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return [(name, f"{count:,}") for name, count in ordered]


def _footprints(lives: Sequence[Life]) -> list[tuple[str, ...]]:
    by_role: dict[Role, list[Life]] = defaultdict(list)
    for life in lives:
        by_role[life.role].append(life)
    return [_footprint(role, by_role[role]) for role in Role if by_role[role]]


def _footprint(role: Role, lives: Sequence[Life]) -> tuple[str, ...]:
    samples = [sample for life in lives for sample in life.samples]
    slopes = [life.slope(after_s=WARM_S) for life in lives if life.seconds > 2 * WARM_S]
    slope = f"{median(slopes) * 60 / MIB:+.2f}" if slopes else "none lived long enough"
    return (
        role,
        f"{len(lives):,}",
        f"{median(s.pss_bytes for s in samples) / MIB:.0f}",
        f"{max(s.pss_bytes for s in samples) / MIB:.0f}",
        slope,
        str(max(s.descriptors for s in samples)),
        str(max(s.threads for s in samples)),
    )
