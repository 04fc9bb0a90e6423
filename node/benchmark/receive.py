"""How fast Instances are received: radnode beside dcmtk, Orthanc and pynetdicom, in interleaved rounds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from node.benchmark.crew import Client, Crew, open_crew, shares_of
from node.benchmark.load import Load, Sent
from node.benchmark.receivers import Receiver, receivers
from node.benchmark.report import Target, to_markdown
from node.benchmark.rounds import Entry, Figures, heads, summarize, take_turns

# Where Nagle's delay is on, the rate is the same with few Instances.
INSTANCES_WITH_NAGLE = 40
# What others are compared with; the first two of each are named by the targets.
BASES_OF_ONE = ("storescp tuned", "Orthanc tuned", "pynetdicom raw")
BASES_OF_SEVERAL = ("storescp fork", "Orthanc tuned", "pynetdicom raw")
DEFAULTS = ("storescp default", "Orthanc default")
OURS = ("radnode fsync", "radnode group", "radnode none")
# Receiver, base, how many times as fast; and processor time that an Instance of the usual size may take.
FASTER_WITH_ONE = (
    ("radnode fsync", "Orthanc tuned", 1.5),
    ("radnode fsync", "pynetdicom raw", 2.0),
    ("radnode none", "storescp tuned", 1.0),
)
FASTER_WITH_SEVERAL = (("radnode fsync", "storescp fork", 1.0), ("radnode fsync", "Orthanc tuned", 2.5))
MOST_CPU_S_PER_GB = 1.6
USUAL_KILOBYTES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Who receives what, and how often.

    Attributes
    ----------
    associations
        Parallel senders, each with its share of the load.
    names
        Receivers, in the order in which they take turns.
    """

    load: Load
    associations: int
    rounds: int
    names: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one receiver did with one client."""

    receiver: str
    is_durable: bool
    client: Client
    figures: Figures


def usual_names(associations: int) -> Sequence[str]:
    """Return who is compared unless somebody chooses: those that take so many Associations at a time."""
    return (*BASES_OF_SEVERAL, *OURS) if associations > 1 else (*BASES_OF_ONE, *DEFAULTS, *OURS)


def compare(contest: Contest, *, folder: Path, note: Callable[[str], None]) -> Sequence[Row]:
    """Return a row for each receiver and client, after rounds in which they took turns.

    Every round begins with a fresh process and an empty folder.

    Parameters
    ----------
    note
        Told what is measured now.

    Raises
    ------
    NotFound
        If a program is not installed, or does not start.
    """
    known = receivers(associations=contest.associations)
    entries = {
        (name, client): Entry(
            receiver=known[name],
            instances=_instances(known[name], contest.load),
            open_crew=_crew_opener(client, contest.associations),
        )
        for name in contest.names
        for client in Client
    }
    sent = Sent(folder / "load", contest.load)
    measured = take_turns(entries, rounds=contest.rounds, sent=sent, folder=folder, note=note)
    return [
        Row(
            receiver=name,
            is_durable=entry.receiver.is_durable,
            client=client,
            figures=summarize(
                entry, measured[name, client], {base: measured[base, client] for base in _bases(contest)}
            ),
        )
        for (name, client), entry in entries.items()
    ]


def _crew_opener(client: Client, associations: int) -> Callable[[int, Sequence[Path]], Crew]:
    return lambda port, files: open_crew(client, port, shares_of(files, associations))


def _bases(contest: Contest) -> Sequence[str]:
    bases = BASES_OF_SEVERAL if contest.associations > 1 else BASES_OF_ONE
    return [name for name in bases if name in contest.names]


def _instances(receiver: Receiver, load: Load) -> int:
    return min(load.instances, INSTANCES_WITH_NAGLE) if receiver.has_nagle else load.instances


def describe_rows(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    header = ("receiver", "durable", "client", *heads(list(rows[0].figures.ratios)))
    return to_markdown(header, [_cells(row) for row in rows])


def _cells(row: Row) -> Sequence[str]:
    return row.receiver, "yes" if row.is_durable else "no", row.client, *row.figures.cells


def targets(contest: Contest, rows: Sequence[Row]) -> Sequence[Target]:
    """Return what was promised of these figures; storescu is the client."""
    found = {row.receiver: row for row in rows if row.client is Client.STORESCU}
    promised = FASTER_WITH_SEVERAL if contest.associations > 1 else FASTER_WITH_ONE
    held = [
        Target(what=f"{name}, times {base}", at_least=factor, measured=found[name].figures.ratios[base])
        for name, base, factor in promised
        if name in found and base in found[name].figures.ratios
    ]
    durable = found.get("radnode fsync")
    if durable is not None and contest.load.kilobytes >= USUAL_KILOBYTES:
        measured = durable.figures.cpu_s_per_gb
        held.append(Target(what="radnode fsync, CPU s/GB", at_most=MOST_CPU_S_PER_GB, measured=measured))
    return held
