"""Who makes SEG and SR of a Study: a node with its worker, and Orthanc with a script; both send them to one PACS."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.benchmark.archive import Archive
from node.benchmark.receivers import NODELAY, Receiver, Running, free_port, orthanc_command
from node.benchmark.tiny_model import NAME, WEIGHTS, write_tiny_model
from node.errors import NotFound
from node.peers.peer import Peer

OURS = "radnode"
RIVAL = "Orthanc and a script"
NAMES = (OURS, RIVAL)
SOURCE_AET, OUR_AET, ARCHIVE_AET = "SOURCE", "RADNODE", "RECEIVER"
STABLE_AGE_S = 1
SCRIPT = "workers.benchmark.rival"
READY = "ready"
SETTINGS = """
[node]
aet = "{aet}"
port = {port}
data_dir = "{folder}/data"

[store]
reserve_bytes = 0

[web]
port = 0

[models]
dirs = ["{folder}/models"]

[sources.source]
aet = "{source_aet}"
host = "127.0.0.1"
port = {source_port}

[destinations.pacs]
transport = "cstore"
aet = "{archive_aet}"
host = "127.0.0.1"
port = {pacs_port}

[pipelines.{model}]
model = "{model}"

[[rules]]
name = "every CT"
run = ["{model}"]
when = {{ modality = "CT" }}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One who gets Studies.

    Attributes
    ----------
    forget
        Makes room after a Study of which nothing is asked any more.
    """

    name: str
    peer: Peer
    forget: Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """All that run.

    Attributes
    ----------
    source
        Holds what is sent, and says how much that is.
    pacs
        Where Results go.
    settings
        File of the node.
    """

    source: Archive
    pacs: Archive
    contenders: Sequence[Contender]
    settings: Path


@contextmanager
def open_ring(folder: Path) -> Iterator[Ring]:
    """Start source, PACS and contenders below an empty folder; end them all.

    Raises
    ------
    NotFound
        If Orthanc is not installed, or something does not start.
    """
    source_port, pacs_port, rival_port = free_port(), free_port(), free_port()
    told = {"DicomAlwaysAllowFind": True, "TcpNoDelay": True}
    with ExitStack() as stack:
        source = stack.enter_context(_archive(folder / "source", {"DicomPort": source_port, **told}))
        pacs = stack.enter_context(_archive(folder / "pacs", {"DicomPort": pacs_port, **told}))
        rival = stack.enter_context(
            _archive(folder / "rival", {"DicomPort": rival_port, "StableAge": STABLE_AGE_S, **told})
        )
        node = _node(source_port, pacs_port)
        running = stack.enter_context(Running(node, folder / "node"))
        stack.enter_context(_script(folder, ports=(rival.port, pacs.port)))
        archives = {one: stack.enter_context(closing(Archive(one.port))) for one in (source, pacs, rival)}
        yield Ring(
            source=archives[source],
            pacs=archives[pacs],
            contenders=(
                Contender(name=OURS, peer=_peer(OUR_AET, running.port), forget=lambda _uid: None),
                Contender(name=RIVAL, peer=_peer(ARCHIVE_AET, rival_port), forget=archives[rival].remove),
            ),
            settings=folder / "node" / "settings.toml",
        )


def _peer(aet: str, port: int) -> Peer:
    return Peer(aet=aet, host="127.0.0.1", port=port, calling_aet=SOURCE_AET)


def _archive(folder: Path, told: Mapping[str, Any]) -> Running:
    """Return an Orthanc whose port is that of its REST API."""
    receiver = Receiver(
        name=f"Orthanc as {folder.name}",
        is_durable=False,
        command=lambda port, place: orthanc_command(place, {"HttpPort": port, "Plugins": [], **told}),
        count=lambda _port, _place: 0,
        kept="db",
        environment=NODELAY,
    )
    return Running(receiver, folder)


def _node(source_port: int, pacs_port: int) -> Receiver:
    """Return a node as it is shipped, with worker and broker of its own, and one Pipeline."""

    def command(port: int, folder: Path) -> Sequence[str]:
        write_tiny_model(folder / "models")
        file = folder / "settings.toml"
        text = SETTINGS.format(
            aet=OUR_AET,
            port=port,
            folder=folder,
            source_aet=SOURCE_AET,
            source_port=source_port,
            archive_aet=ARCHIVE_AET,
            pacs_port=pacs_port,
            model=NAME,
        )
        file.write_text(text, encoding="utf-8")
        return (sys.executable, "-m", "node", "up", "--settings", str(file))

    return Receiver(name=OURS, is_durable=True, command=command, count=lambda _port, _folder: 0, kept="data/store")


@contextmanager
def _script(folder: Path, *, ports: tuple[int, int]) -> Iterator[None]:
    """Run the script, warm, beside the Orthanc with the first port; it posts to the one with the second."""
    weights = folder / "node" / "models" / NAME / WEIGHTS
    command = (sys.executable, "-m", SCRIPT, *map(str, ports), str(weights))
    said = folder / "script.txt"
    with (
        said.open("wb") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            if process.stdout is None or process.stdout.readline().strip() != READY:
                raise NotFound(f"the script beside Orthanc does not start; see {said}")
            yield
        finally:
            process.terminate()
