"""Programs that receive by C-STORE, started as their users start them."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from urllib.request import urlopen

from node.errors import NotFound

START_LIMIT_S = 60.0
POLL_S = 0.02
# A program that takes no more processor time than this in such a period has started.
CALM_S = 0.02
CALM_PERIOD_S = 0.5
NODELAY: Mapping[str, str] = {"TCP_NODELAY": "1", "TCP_BUFFER_LENGTH": "131072"}
AET = "RECEIVER"

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
        Returns how many Instances it has stored, for the same two.
    """

    name: str
    is_durable: bool
    command: Callable[[int, Path], Sequence[str]]
    count: Callable[[int, Path], int]
    environment: Mapping[str, str] = field(default_factory=dict)


class Running:
    """One receiver in a process of its own, with an empty folder; a context manager that ends it."""

    def __init__(self, receiver: Receiver, folder: Path) -> None:
        self._receiver = receiver
        self._folder = folder
        self.port = _free_port()
        folder.mkdir(parents=True)
        command = receiver.command(self.port, folder)
        environment = {**os.environ, **receiver.environment}
        with (folder / "output.txt").open("wb") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=output, env=environment, start_new_session=True
            )

    def __enter__(self) -> "Running":
        deadline = monotonic() + START_LIMIT_S
        while not _is_listening(self.port):
            if monotonic() > deadline or self._process.poll() is not None:
                self._end()
                raise NotFound(f"{self._receiver.name} does not listen; see {self._folder / 'output.txt'}")
            sleep(POLL_S)
        self._wait_until_calm(deadline)
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    @property
    def stored(self) -> int:
        """How many Instances it has stored."""
        return self._receiver.count(self.port, self._folder)

    def cpu_s(self) -> float:
        """Return the processor time of the program and of its children that have ended, seconds."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def peak_bytes(self) -> int:
        """Return the most memory that the program held at a time."""
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii"))
        return int(found[1]) * 1024 if found else 0

    def _wait_until_calm(self, deadline: float) -> None:
        # Some listen before they are ready; their start must not be counted.
        busy_s = 1.0
        while busy_s > CALM_S and monotonic() < deadline:
            before_s = self.cpu_s()
            sleep(CALM_PERIOD_S)
            busy_s = self.cpu_s() - before_s

    def _end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(START_LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def receivers() -> Mapping[str, Receiver]:
    """Return every receiver that can be compared, by name."""
    known = [
        _storescp("storescp tuned", NODELAY),
        _storescp("storescp default", {}, pdu=()),
        _storescp("storescp fork", NODELAY, "--fork"),
        _orthanc("Orthanc tuned", nodelay=True),
        _orthanc("Orthanc default", nodelay=False),
        Receiver(
            name="pynetdicom raw",
            is_durable=False,
            command=lambda port, folder: (sys.executable, "-c", PYNETDICOM_RAW, str(port), str(_received(folder)), AET),
            count=lambda _port, folder: _count(folder / "received"),
        ),
        *(_radnode(durability) for durability in ("fsync", "group", "none")),
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


def _storescp(
    name: str, environment: Mapping[str, str], *options: str, pdu: Sequence[str] = ("--max-pdu", "131072")
) -> Receiver:
    def command(port: int, folder: Path) -> Sequence[str]:
        bits = ("+B",) if pdu else ()
        return (find_dcmtk("storescp"), *options, *bits, *pdu, "-od", str(_received(folder)), "-aet", AET, str(port))

    return Receiver(
        name=name,
        is_durable=False,
        command=command,
        count=lambda _port, folder: _count(folder / "received"),
        environment=environment,
    )


def _orthanc(name: str, *, nodelay: bool) -> Receiver:
    def command(port: int, folder: Path) -> Sequence[str]:
        program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
        if program is None:
            raise NotFound("Orthanc is not on PATH; install it")
        web = _free_port()
        settings = {
            "Name": "bench",
            "StorageDirectory": str(folder / "db"),
            "IndexDirectory": str(folder / "db"),
            "DicomAet": AET,
            "DicomPort": port,
            "HttpPort": web,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "Plugins": [],
            "TcpNoDelay": nodelay,
        }
        (folder / "web-port").write_text(str(web), encoding="ascii")
        file = folder / "orthanc.json"
        file.write_text(json.dumps(settings), encoding="utf-8")
        return (program, str(file))

    def count(_port: int, folder: Path) -> int:
        web = (folder / "web-port").read_text(encoding="ascii")
        with urlopen(f"http://127.0.0.1:{web}/statistics") as answer:
            return int(json.load(answer)["CountInstances"])

    environment = NODELAY if nodelay else {}
    return Receiver(name=name, is_durable=True, command=command, count=count, environment=environment)


def _radnode(durability: str) -> Receiver:
    def command(port: int, folder: Path) -> Sequence[str]:
        file = folder / "settings.toml"
        file.write_text(
            f'[node]\naet = "{AET}"\nport = {port}\ndata_dir = "{folder / "data"}"\n\n'
            f'[store]\nreserve_bytes = 0\ndurability = "{durability}"\n\n[log]\nlevel = "WARNING"\n',
            encoding="utf-8",
        )
        return (sys.executable, "-m", "node", "serve", "--settings", str(file))

    return Receiver(
        name=f"radnode {durability}",
        is_durable=durability != "none",
        command=command,
        count=lambda _port, folder: _count(folder / "data" / "store" / "instances"),
    )


def _received(folder: Path) -> Path:
    received = folder / "received"
    received.mkdir(exist_ok=True)
    return received


def _count(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True
