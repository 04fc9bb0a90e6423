"""The stage of the soak: a node on a small volume of its own, a PACS behind it, modalities before it."""

import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

import pytest
from redis import Redis

from node.broker import socket_path
from node.peers.peer import Peer
from tests.node_process import Launch, NodeProcess, destination_table
from tests.peers import Orthanc, free_port
from tests.soak.disk import Disk
from tests.volumes import disk_volume

# What is not filled lies nowhere; twenty minutes need a third of it, most for the pictures that stand in for reports.
DISK_BYTES = 16 << 30
RESERVE_BYTES = 32 << 20
MODALITIES = 3
# Until a modality has the Study in hand acknowledged.
LAST_STUDY_LIMIT_S = 180.0
# Shorter than a site's, so that much happens in twenty minutes; every mechanism is the shipped one. A worker that is
# killed every half minute must not use up the attempts of a Job: what a Job dies of is not its content.
SETTINGS = """
[assembly]
quiet_seconds = 1.0

[broker]
resend_seconds = 5.0

[dispatch]
lease_seconds = 10.0
heartbeat_seconds = 1.0
retry_seconds = 0.5
max_attempts = 10

[delivery]
first_retry_seconds = 0.5
max_retry_seconds = 5.0
timeout_s = 5.0

[pipelines.chest_xray]
model = "cxr-pneumonia"
optional_results = []

"""


class Hospital:
    """All of them; a context manager that ends them and removes nothing but the volume.

    Attributes
    ----------
    disk
        None where volumes cannot be mounted.
    books
        Where the modalities write.
    """

    def __init__(self, folder: Path, *, seed: int) -> None:
        self._seed = seed
        self.data_dir = folder / "data"
        self.books = folder / "modalities"
        self.books.mkdir()
        self.log = folder / "node.log"
        self.pacs = Orthanc()
        self._volumes = ExitStack()
        self.disk: Disk | None = None
        # Where CI=true it fails, as a test does.
        with suppress(pytest.skip.Exception):
            self._volumes.callback(self.data_dir.with_suffix(".image").unlink, missing_ok=True)
            self.disk = Disk(self._volumes.enter_context(disk_volume(self.data_dir, DISK_BYTES)))
        destination = destination_table(Peer(aet=self.pacs.aet, host="127.0.0.1", port=self.pacs.dicom_port))
        # The node's file sets no reserve.
        launch = Launch(environment={"RADNODE__STORE__RESERVE_BYTES": str(RESERVE_BYTES)})
        self.node = NodeProcess(folder, SETTINGS + destination, port=free_port(), launch=launch)
        self._modalities: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Hospital":
        try:
            self.pacs.start()
            self.node.start()
            self._start_modalities()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def broker(self) -> "Redis[bytes]":
        """A client of the node's own broker."""
        return Redis(unix_socket_path=str(socket_path((self.data_dir / "broker").resolve())))

    def end_modalities(self) -> bool:
        """Let each modality come to the end of its Study; return whether all did."""
        for modality in self._modalities:
            modality.terminate()
        ended = [_has_ended(modality) for modality in self._modalities]
        return all(ended)

    def close(self) -> None:
        """End everything, whatever of it does not end in order."""
        with ExitStack() as last:
            last.callback(self._volumes.close)
            last.callback(self.pacs.__exit__, None, None, None)
            for modality in self._modalities:
                modality.kill()
                modality.wait()
            self.node.stop()

    def _start_modalities(self) -> None:
        for number in range(MODALITIES):
            arguments = [str(self.node.peer.port), str(self.books), str(self._seed), str(number)]
            command = [sys.executable, "-m", "tests.soak.sender", *arguments]
            self._modalities.append(subprocess.Popen(command))


def _has_ended(modality: "subprocess.Popen[bytes]") -> bool:
    try:
        return modality.wait(LAST_STUDY_LIMIT_S) == 0
    except subprocess.TimeoutExpired:
        return False
