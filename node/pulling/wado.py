"""WADO-RS as its client: Instances are asked for as the Part 10 files that they are (PS3.18 10.4)."""

from collections.abc import Iterator
from email.message import Message
from http import HTTPStatus

import requests

from node.errors import DestinationDown, Misconfigured, RequestMalformed, RetrieveFailed
from node.peers.command import SubOperations
from node.peers.peer import DestinationSpec
from node.peers.web_service import WebService
from node.pulling.carrier import Landing, Progress, Want

# As they are stored; a service that does not know the parameter passes it over.
ACCEPT = 'multipart/related; type="application/dicom"; transfer-syntax=*'
CHUNK_BYTES = 256 * 1024
FORBIDDEN = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED})
# Nothing gets through at the moment, whatever is asked for.
DOWN = frozenset({
    HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT,
})  # fmt: skip
# All of them, or all but some (PS3.18 table 10.4.3-2).
GIVEN = frozenset({HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT})


class WadoCarrier:
    """Instances come as the parts of answers."""

    def __init__(self, spec: DestinationSpec, landing: Landing) -> None:
        self._service = WebService(spec, kind=("DICOMweb", "http://127.0.0.1:8042/dicom-web"))
        self._landing = landing

    def bring(self, want: Want, progress: Progress) -> SubOperations:
        """Return after what is wanted came; see `Carrier.bring`."""
        before = self._landing.taken
        with self._service.session() as session:
            for path in _paths(want):
                if not progress.is_wanted:
                    break
                self._take(session, path, before, progress)
        return self._since(before)

    def _since(self, before: SubOperations) -> SubOperations:
        now = self._landing.taken
        return SubOperations(completed=now.completed - before.completed, failed=now.failed - before.failed)

    def _take(self, session: requests.Session, path: str, before: SubOperations, progress: Progress) -> None:
        service = self._service
        timeouts_s = service.timeouts_s()
        response = service.ask(
            lambda: session.get(f"{service.url}/{path}", headers={"Accept": ACCEPT}, timeout=timeouts_s, stream=True)
        )
        with response:
            self._judge(response.status_code)
            boundary = _boundary_of(response.headers.get("Content-Type", ""))
            try:
                self._landing.take_parts(boundary, self._chunks(response, before, progress))
            except RequestMalformed as exc:
                if progress.is_wanted:
                    raise RetrieveFailed(f"{service.name} gave an answer that cannot be read to its end") from exc

    def _chunks(self, response: requests.Response, before: SubOperations, progress: Progress) -> Iterator[bytes]:
        chunks = response.iter_content(CHUNK_BYTES)
        while chunk := self._service.ask(lambda: next(chunks, b"")):
            yield chunk
            if not progress.note(self._since(before)):
                return

    def _judge(self, status: int) -> None:
        name = self._service.name
        if status in FORBIDDEN:
            raise Misconfigured(f"{name} does not let radnode retrieve (HTTP {status}); allow it there")
        if status in DOWN:
            raise DestinationDown(f"{name} gives nothing at the moment (HTTP {status})")
        if status not in GIVEN:
            raise RetrieveFailed(f"{name} did not give what it was asked for (HTTP {status})")


def _paths(want: Want) -> list[str]:
    study = f"studies/{want.study_instance_uid}"
    if want.series_instance_uid is None:
        return [study]
    series = f"{study}/series/{want.series_instance_uid}"
    return [f"{series}/instances/{uid}" for uid in want.instances] or [series]


def _boundary_of(content_type: str) -> str:
    """Return what stands between the parts; empty where nothing says it, which no reader takes."""
    header = Message()
    header["Content-Type"] = content_type
    return str(header.get_param("boundary", ""))
