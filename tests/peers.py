"""Real peers of the tests: programs by name; Orthanc and storescp on ports of the system's choice, ended by pid."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, TypeVar

import pytest

from node.peers.peer import DestinationSpec
from node.viewer.package import VERSION

Answer = TypeVar("Answer")

START_LIMIT_S = 60.0
STOP_LIMIT_S = 10.0
POLL_S = 0.02
HTTP_LIMIT_S = 60.0
# Where Debian and the Orthanc packages put the DICOMweb plugin.
DICOMWEB_PLUGINS = (
    "/usr/share/orthanc/plugins/libOrthancDicomWeb.so",
    "/usr/local/share/orthanc/plugins/libOrthancDicomWeb.so",
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Where .ci/install-peers puts the npm package @ohif/app.
VIEWER = Path(__file__).resolve().parent.parent / "build" / "ohif" / f"ohif-app-{VERSION}.tgz"
# Debian's libpixelmed-java; its manifest names the libraries that it needs.
PIXELMED = Path("/usr/share/java/pixelmed.jar")
NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))

# Folders with a python that is no virtual environment.
SYSTEM = ("/usr/bin", "/usr/local/bin", "/bin")


def require_program(name: str) -> str:
    """Return the path of a program; without it the test is skipped by name, or failed where CI=true.

    Programs that pip installed lie beside an interpreter, which need not be on the path; pynetdicom's have the names of
    dcmtk's, so they are looked at last.
    """
    folders = [folder for folder in os.get_exec_path() if not (Path(folder) / "python").exists() or folder in SYSTEM]
    path = shutil.which(name, path=os.pathsep.join(folders)) or shutil.which(name, path=Path(sys.executable).parent)
    if path is None:
        absent(f"{name} is not installed")
    return path


def require_dicomweb_plugin() -> str:
    """Return the path of Orthanc's DICOMweb plugin, as `require_program` does."""
    found = [path for path in DICOMWEB_PLUGINS if Path(path).exists()]
    if not found:
        absent("the DICOMweb plugin of Orthanc is not installed")
    return found[0]


def require_browser() -> str:
    """Return the path of a Chromium, as `require_program` does."""
    found = [path for path in map(shutil.which, BROWSERS) if path]
    if not found:
        absent("Chromium is not installed")
    return found[0]


def require_viewer() -> Path:
    """Return the package of the OHIF Viewer, as `require_program` does."""
    if not VIEWER.is_file():
        absent("the OHIF Viewer was not fetched (`make peers` does)")
    return VIEWER


def require_pixelmed() -> str:
    """Return the path of PixelMed's classes, as `require_program` does."""
    if not PIXELMED.is_file():
        absent("PixelMed's toolkit is not installed (`make validate-slow` does)")
    return str(PIXELMED)


def absent(reason: str) -> NoReturn:
    """Skip the test, or fail it where CI=true."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and CI=true allows no skip")
    pytest.skip(reason)


def free_port() -> int:
    """Return a TCP port of the loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(question: Callable[[], Answer | None], *, what: str, limit_s: float = START_LIMIT_S) -> Answer:
    """Return the first true answer to `question`; fail the test when there is none before the deadline."""
    deadline = time.monotonic() + limit_s
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f"after {limit_s:g} s still no: {what}")
        time.sleep(POLL_S)


def is_listening(port: int) -> bool:
    """Return whether somebody accepts connections on a port of the loopback."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
        return True
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Modality:
    """Somebody to whom Orthanc can send."""

    aet: str
    port: int
    host: str = "127.0.0.1"


class Program:
    """A child process with its log in a file; a context manager."""

    def __init__(self, command: Sequence[str], folder: Path, *, environment: Mapping[str, str] | None = None) -> None:
        self._command = list(command)
        self._environment = dict(environment or {})
        self.log = folder / f"{Path(command[0]).name.lower()}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=os.environ | self._environment,
            )

    @property
    def pid(self) -> int:
        """Process ID of the running process."""
        if self._process is None:
            pytest.fail(f"{self._command[0]} was not started")
        return self._process.pid

    def is_running(self) -> bool:
        """Return whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End the process and wait for its end."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


class Orthanc:
    """An Orthanc with DICOMweb on the loopback, empty at its start; a context manager.

    Attributes
    ----------
    aet, dicom_port
        Its address for DICOM.
    url, dicomweb_url
        Base of its REST API and of its DICOMweb service.
    """

    def __init__(
        self,
        *,
        aet: str = "ORTHANC",
        modalities: Mapping[str, Modality] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        program, plugin = require_program("Orthanc"), require_dicomweb_plugin()
        self.aet = aet
        self.dicom_port = free_port()
        self.http_port = free_port()
        self.url = f"http://127.0.0.1:{self.http_port}"
        self.dicomweb_url = f"{self.url}/dicom-web"
        self.folder = Path(tempfile.mkdtemp(prefix="orthanc-"))
        configuration = self.folder / "orthanc.json"
        configuration.write_text(json.dumps(self._configuration(plugin, modalities or {}) | dict(settings or {})))
        self._program = Program([program, str(configuration)], self.folder)

    def _configuration(self, plugin: str, modalities: Mapping[str, Modality]) -> dict[str, Any]:
        """Return Orthanc's settings."""
        return {
            "Name": "radnode tests",
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "TemporaryDirectory": str(self.folder),
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomServerEnabled": True,
            "DicomAet": self.aet,
            "DicomPort": self.dicom_port,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowEcho": True,
            "UnknownSopClassAccepted": True,
            "OverwriteInstances": True,
            "TcpNoDelay": True,
            "StableAge": 1,
            "SyncStorageArea": False,
            "DicomModalities": {
                name: {"AET": modality.aet, "Host": modality.host, "Port": modality.port}
                for name, modality in modalities.items()
            },
            "Plugins": [plugin],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }

    def __enter__(self) -> "Orthanc":
        """Start it and wait until it answers."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it and remove what it stored."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start it, again on the same ports and storage after `stop`, and return when it answers."""
        self._program.start()
        wait_until(self._is_ready, what=f"Orthanc answers (log: {self._program.log})")

    def stop(self) -> None:
        """End it; what it stored stays until the context ends."""
        self._program.stop()

    def kill(self) -> None:
        """Kill it, -9; what it stored stays until the context ends."""
        os.kill(self._program.pid, signal.SIGKILL)
        self._program.stop()

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self._program.log.read_text(errors="replace")

    def _is_ready(self) -> bool:
        """Return whether it answers on HTTP and DICOM."""
        if not self._program.is_running():
            pytest.fail(f"Orthanc ended at its start:\n{self.log[-2000:]}")
        try:
            self.get("/system")
        except (urllib.error.URLError, OSError):
            return False
        return is_listening(self.dicom_port)

    def request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Return the body of an answer of the REST API."""
        request = urllib.request.Request(f"{self.url}{path}", data=body, method=method)
        with NO_PROXY.open(request, timeout=HTTP_LIMIT_S) as response:
            content: bytes = response.read()
            return content

    def get(self, path: str) -> Any:
        """Return the JSON of a GET."""
        return json.loads(self.request("GET", path))

    def post(self, path: str, document: Any) -> Any:
        """Return the JSON of a POST of JSON."""
        return json.loads(self.request("POST", path, json.dumps(document).encode()))

    def upload(self, path: Path) -> None:
        """Put a file into it by REST."""
        self.request("POST", "/instances", path.read_bytes())

    def studies(self) -> dict[str, str]:
        """Return Orthanc's identifier of each Study by Study Instance UID."""
        return self._uids("/studies?expand", "StudyInstanceUID")

    def series(self, study_instance_uid: str) -> dict[str, dict[str, Any]]:
        """Return what Orthanc says of each Series of a Study, by Series Instance UID; empty if it lacks the Study."""
        identifier = self.studies().get(study_instance_uid)
        if identifier is None:
            return {}
        found = self.get(f"/studies/{identifier}/series")
        return {series["MainDicomTags"]["SeriesInstanceUID"]: series for series in found}

    def instances(self) -> dict[str, str]:
        """Return Orthanc's identifier of each Instance by SOP Instance UID."""
        return self._uids("/instances?expand", "SOPInstanceUID")

    def _uids(self, path: str, keyword: str) -> dict[str, str]:
        """Return identifiers by the UID in their main tags."""
        return {found["MainDicomTags"][keyword]: found["ID"] for found in self.get(path)}

    def file(self, sop_instance_uid: str) -> bytes:
        """Return the Part 10 file of an Instance."""
        return self.request("GET", f"/instances/{self.instances()[sop_instance_uid]}/file")

    def send_to(self, modality: str, study_instance_uid: str) -> None:
        """Let it send a Study by C-STORE to one of its modalities; returns after the peer has it all."""
        self.post(
            f"/modalities/{modality}/store",
            {"Resources": [self.studies()[study_instance_uid]], "Synchronous": True, "Permissive": False},
        )


def spec_of(orthanc: Orthanc) -> DestinationSpec:
    """Return it as a Destination that is reached by C-STORE."""
    return DestinationSpec(name="pacs", transport="cstore", aet=orthanc.aet, host="127.0.0.1", port=orthanc.dicom_port)


def web_of(orthanc: Orthanc) -> DestinationSpec:
    """Return it as a Destination that is reached by STOW-RS."""
    return DestinationSpec(name="pacs", transport="stow", url=orthanc.dicomweb_url)


class Storescp:
    """dcmtk's storescp, writing what it receives into a folder bit by bit as received; a context manager."""

    def __init__(self, folder: Path, *options: str, aet: str = "STORESCP", port: int | None = None) -> None:
        self.aet = aet
        self.port = free_port() if port is None else port
        self.received = folder / "received"
        self.received.mkdir(parents=True, exist_ok=True)
        command = [require_program("storescp"), "--aetitle", aet, "+B", "-od", str(self.received)]
        self._program = Program(
            [*command, *options, str(self.port)],
            folder,
            environment={"TCP_NODELAY": "1", "TCP_BUFFER_LENGTH": "131072"},
        )

    def __enter__(self) -> "Storescp":
        """Start it and wait until it listens."""
        self._program.start()
        wait_until(lambda: is_listening(self.port), what="storescp listens")
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it."""
        self._program.stop()

    def files(self) -> list[Path]:
        """Return what it received."""
        return sorted(path for path in self.received.iterdir() if path.is_file())
