"""Programs that receive by C-STORE, started as their users start them."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.request import urlopen

from node.benchmark.usage import MemoryWatch, cpu_s, memory_bytes, wait_until_calm
from node.errors import NotFound
from node.ledger.opening import open_view
from node.settings.loading import load_settings

START_LIMIT_S = 60.0
POLL_S = 0.02
CALM_LIMIT_S = 10.0
NODELAY: Mapping[str, str] = {"TCP_NODELAY": "1", "TCP_BUFFER_LENGTH": "131072"}
AET = "RECEIVER"
PDU_BYTES = 131072
# Parallel Associations that every program takes without being told so (pynetdicom's default is the lowest).
UNASKED_ASSOCIATIONS = 10
# More Studies than any load has.
MANY = 1000
KEPT_BY_RADNODE = "data/store/instances"

# What a careful user of pynetdicom writes: the data set goes to a file as it came, nothing is decoded.
PYNETDICOM_RAW = """
import sys
from pathlib import Path
from pynetdicom import AE, AllStoragePresentationContexts, ALL_TRANSFER_SYNTAXES, evt
folder = Path(sys.argv[2])
def store(event):
    (folder / event.request.AffectedSOPInstanceUID).write_bytes(event.encoded_dataset())
    return 0x0000
ae = AE(sys.argv[3])
ae.maximum_pdu_size = 131072
ae.maximum_associations = int(sys.argv[4])
for context in AllStoragePresentationContexts:
    ae.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
ae.start_server(("127.0.0.1", int(sys.argv[1])), evt_handlers=[(evt.EVT_C_STORE, store)])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """How one program is started, and where one sees what it has stored.

    Attributes
    ----------
    is_durable
        Whether it waits for the disk before it answers Success.
    command
        Returns the command line for a port and an empty folder.
    count
        Returns how many Instances it says that it has, for the same two.
    kept
        Where its files lie, below that folder.
    environment
        Variables that it is started with.
    """

    name: str
    is_durable: bool
    command: Callable[[int, Path], Sequence[str]]
    count: Callable[[int, Path], int]
    kept: str
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_nagle(self) -> bool:
        """Whether it leaves Nagle's delay on, and so answers some 20 times a second."""
        return self.name.endswith("default")


class Running:
    """One receiver in a process of its own, with an empty folder; a context manager that ends it."""

    def __init__(self, receiver: Receiver, folder: Path) -> None:
        self._receiver = receiver
        self._folder = folder
        self.port = free_port()
        folder.mkdir(parents=True)
        command = receiver.command(self.port, folder)
        # What the person who measures has set for himself would change what is compared.
        plain = {name: value for name, value in os.environ.items() if name not in NODELAY and "RADNODE" not in name}
        environment = {**plain, **receiver.environment}
        with (folder / "output.txt").open("wb") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=output, env=environment, start_new_session=True
            )

    def __enter__(self) -> "Running":
        deadline = monotonic() + START_LIMIT_S
        while not is_listening(self.port):
            if monotonic() > deadline or self._process.poll() is not None:
                self._end()
                raise NotFound(f"{self._receiver.name} does not listen; see {self._folder / 'output.txt'}")
            sleep(POLL_S)
        # Some listen before they are ready; their start must not be counted.
        self.wait_until_calm()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    @property
    def stored(self) -> int:
        """How many Instances it says that it has."""
        return self._receiver.count(self.port, self._folder)

    def kept(self) -> Iterator[Path]:
        """Yield the files that it keeps; a database may be among them."""
        return (path for path in (self._folder / self._receiver.kept).rglob("*") if path.is_file())

    def cpu_s(self) -> float:
        """Return the processor time of the program and of everything below it since it was started; seconds."""
        return cpu_s(self._process.pid)

    def memory_bytes(self) -> int:
        """Return what the program and everything below it hold now; what they share counts once."""
        return memory_bytes(self._process.pid)

    def watch_memory(self, *, sample_s: float) -> MemoryWatch:
        """Return a watch on the memory of the program and of everything below it."""
        return MemoryWatch(self._process.pid, sample_s=sample_s)

    def wait_until_calm(self) -> None:
        """Return when it has nothing more to do, or always has something to do."""
        wait_until_calm(self._process.pid, limit_s=CALM_LIMIT_S)

    def _end(self) -> None:
        # Only the program itself: it ends what it has started in its own order.
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(START_LIMIT_S)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def receivers(*, associations: int = 1) -> Mapping[str, Receiver]:
    """Return every receiver that can be compared, by name.

    Parameters
    ----------
    associations
        How many each must take at a time; those that have a limit get a higher one only where theirs is too low.
    """
    known = [
        _storescp("storescp tuned", NODELAY),
        _storescp("storescp default", {}, pdu=()),
        _storescp("storescp fork", NODELAY, "--fork"),
        _orthanc("Orthanc tuned", is_tuned=True),
        _orthanc("Orthanc default", is_tuned=False),
        _pynetdicom(associations),
        *(_radnode(durability, associations) for durability in ("fsync", "group", "none")),
    ]
    return {receiver.name: receiver for receiver in known}


def find_dcmtk(program: str) -> str:
    """Return the path of a program of dcmtk; pynetdicom installs others of the same names.

    Raises
    ------
    NotFound
        If it is not installed.
    """
    for folder in os.get_exec_path():
        path = shutil.which(program, path=folder)
        if path is not None and "dcmtk" in subprocess.run((path, "--version"), capture_output=True, text=True).stdout:
            return path
    raise NotFound(f"{program} of dcmtk is not on PATH; install dcmtk")


def find_orthanc() -> str:
    """Return the path of Orthanc; Debian puts it where only root looks.

    Raises
    ------
    NotFound
        If it is not installed.
    """
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    if program is None:
        raise NotFound("Orthanc is not on PATH; install it")
    return program


def _storescp(
    name: str, environment: Mapping[str, str], *options: str, pdu: Sequence[str] = ("--max-pdu", str(PDU_BYTES))
) -> Receiver:
    def command(port: int, folder: Path) -> Sequence[str]:
        bits = ("+B",) if pdu else ()
        return (find_dcmtk("storescp"), *options, *bits, *pdu, "-od", str(_received(folder)), "-aet", AET, str(port))

    return Receiver(
        name=name,
        is_durable=False,
        command=command,
        count=lambda _port, folder: _count(folder / "received"),
        kept="received",
        environment=environment,
    )


def _orthanc(name: str, *, is_tuned: bool) -> Receiver:
    def command(port: int, folder: Path) -> Sequence[str]:
        # Its TcpNoDelay is that of its web server; for DICOM it obeys dcmtk's environment.
        tuned = {"MaximumPduLength": PDU_BYTES} if is_tuned else {}
        web = free_port()
        (folder / "web-port").write_text(str(web), encoding="ascii")
        return orthanc_command(folder, {"DicomPort": port, "HttpPort": web, "Plugins": [], **tuned})

    def count(_port: int, folder: Path) -> int:
        return count_of_orthanc(int((folder / "web-port").read_text(encoding="ascii")))

    environment = NODELAY if is_tuned else {}
    return Receiver(name=name, is_durable=True, command=command, count=count, kept="db", environment=environment)


def orthanc_command(folder: Path, told: Mapping[str, Any]) -> Sequence[str]:
    """Return the command line of an Orthanc with everything in `folder`, and with these settings beside the usual."""
    settings = {
        "Name": "bench",
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "DicomAet": AET,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        **told,
    }
    file = folder / "orthanc.json"
    file.write_text(json.dumps(settings), encoding="utf-8")
    return (find_orthanc(), str(file))


def count_of_orthanc(web_port: int) -> int:
    """Return how many Instances an Orthanc says that it has."""
    with urlopen(f"http://127.0.0.1:{web_port}/statistics") as answer:
        return int(json.load(answer)["CountInstances"])


def _pynetdicom(associations: int) -> Receiver:
    def command(port: int, folder: Path) -> Sequence[str]:
        limit = max(associations, UNASKED_ASSOCIATIONS)
        return (sys.executable, "-c", PYNETDICOM_RAW, str(port), str(_received(folder)), AET, str(limit))

    return Receiver(
        name="pynetdicom raw",
        is_durable=False,
        command=command,
        count=lambda _port, folder: _count(folder / "received"),
        kept="received",
    )


def _radnode(durability: str, associations: int) -> Receiver:
    limits = f"max_associations = {associations}\nmax_associations_per_peer = {associations}\n"
    told = limits if associations > UNASKED_ASSOCIATIONS else ""

    def command(port: int, folder: Path) -> Sequence[str]:
        return radnode_command(folder, durability, f"port = {port}\n{told}", web_port=0)

    return Receiver(
        name=f"radnode {durability}",
        is_durable=durability != "none",
        command=command,
        count=lambda _port, folder: count_of_radnode(folder),
        kept=KEPT_BY_RADNODE,
    )


def radnode_command(
    folder: Path, durability: str, node: str, *, web_port: int, web_processes: int = 1
) -> Sequence[str]:
    """Return the command line of a node as it is shipped, but for what is measured and a reserve of the disk.

    Parameters
    ----------
    node
        Further lines of the section ``[node]``.
    web_port
        0: it does not listen for HTTP.
    web_processes
        How many of them store what comes there.
    """
    file = folder / "settings.toml"
    file.write_text(
        f'[node]\naet = "{AET}"\ndata_dir = "{folder / "data"}"\n{node}\n'
        f'[store]\nreserve_bytes = 0\ndurability = "{durability}"\n\n[web]\nport = {web_port}\n'
        f"processes = {web_processes}\n",
        encoding="utf-8",
    )
    return (sys.executable, "-m", "node", "serve", "--settings", str(file))


def count_of_radnode(folder: Path) -> int:
    """Return how many Instances the ledger of the node in `folder` has."""
    view = open_view(load_settings(folder / "settings.toml"))
    return sum(series.instances for story in view.list_studies(MANY) for series in story.series)


def _received(folder: Path) -> Path:
    received = folder / "received"
    received.mkdir(exist_ok=True)
    return received


def _count(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def is_listening(port: int) -> bool:
    """Return whether somebody on this machine takes connections on a port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True
