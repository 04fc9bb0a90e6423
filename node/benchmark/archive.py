"""Orthanc as an archive: filled, emptied and looked into by its REST API."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection
from time import monotonic, sleep
from typing import Any

from node.errors import Broken

HTTP_LIMIT_S = 60.0
# How often it is asked what is new.
POLL_S = 0.02
CHANGES_AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One Instance that an archive has taken.

    Attributes
    ----------
    at_s
        When it was seen there; `time.monotonic`.
    """

    study_instance_uid: str
    modality: str
    at_s: float


class Archive:
    """What an Orthanc on this machine holds, over one connection that stays open.

    Parameters
    ----------
    port
        Of its REST API.
    """

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=HTTP_LIMIT_S)

    def add(self, content: bytes) -> None:
        """Store a Part 10 file."""
        self._request("POST", "/instances", content)

    def remove(self, study_instance_uid: str) -> None:
        """Forget a Study, if it is there."""
        for identifier in json.loads(self._request("POST", "/tools/lookup", study_instance_uid.encode())):
            self._request("DELETE", identifier["Path"])

    def newest(self) -> int:
        """Return the number of the newest change."""
        return int(self._get("/changes?last")["Last"])

    def arrivals_since(self, change: int) -> tuple[int, Sequence[Arrival]]:
        """Return the number of the last change that was read, and the Instances that came after `change`."""
        told = self._get(f"/changes?since={change}&limit={CHANGES_AT_ONCE}")
        at_s = monotonic()
        new = [one["ID"] for one in told["Changes"] if one["ChangeType"] == "NewInstance"]
        tagged = (self._get(f"/instances/{identifier}/simplified-tags") for identifier in new)
        found = [
            Arrival(study_instance_uid=tags["StudyInstanceUID"], modality=tags["Modality"], at_s=at_s)
            for tags in tagged
        ]
        return int(told["Last"]), found

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _get(self, path: str) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = json.loads(self._request("GET", path))
        return answer

    def _request(self, method: str, path: str, body: bytes = b"") -> bytes:
        try:
            self._connection.request(method, path, body)
            response = self._connection.getresponse()
        except ConnectionError:
            # It closes what was silent for a second; nothing that is asked here does harm twice.
            self._connection.close()
            self._connection.request(method, path, body)
            response = self._connection.getresponse()
        content = response.read()
        if response.status != HTTPStatus.OK:
            raise Broken(f"Orthanc answered {response.status} to {method} {path.partition('?')[0]}")
        return content


@dataclass(slots=True, kw_only=True)
class Watch:
    """What comes into an archive from now on.

    Attributes
    ----------
    seen
        So far.
    """

    archive: Archive
    change: int
    seen: list[Arrival] = field(default_factory=list)

    def look(self) -> None:
        """Take note of what is new."""
        self.change, arrived = self.archive.arrivals_since(self.change)
        self.seen.extend(arrived)

    def of(self, study_instance_uid: str) -> Sequence[Arrival]:
        """Return what came of a Study, in its order."""
        return [one for one in self.seen if one.study_instance_uid == study_instance_uid]

    def wait_for(self, holds: Callable[[], bool], *, limit_s: float) -> bool:
        """Look until `holds`, or for so long; return whether it does."""
        until_s = monotonic() + limit_s
        while not holds() and monotonic() < until_s:
            sleep(POLL_S)
            self.look()
        return holds()
