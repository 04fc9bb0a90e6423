"""STOW-RS transport (PS3.18 10.5): Part 10 files as they are, in one request, each with its own answer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import requests
from dicomweb_client.web import DICOMwebClient
from pydicom.dataset import Dataset

from node.delivery.parcel import DestinationSpec, Outcome, Parcel, Report
from node.delivery.query import SeriesCount, read_count
from node.delivery.status import DOUBTFUL_TRIES, SUCCESS, UNPROCESSED_TRIES, judge_status
from node.delivery.web_service import WebService
from node.errors import (
    DestinationBusy,
    DestinationDown,
    DestinationRefused,
    Misconfigured,
    SopClassNotSupported,
)

# Objects are gathered into requests of about this size; they are in memory while they are sent.
REQUEST_BYTES = 32 * 1024 * 1024
# dicomweb-client would switch to chunked transfer encoding above 1 MB, which some servers refuse.
NEVER_CHUNKED = 1 << 40

# How many matches of a search are asked for at once.
PAGE = 1000
SOP_INSTANCE_UID, MODALITY, SERIES_INSTANCE_UID = "00080018", "00080060", "0020000E"
STUDY_RELATED_INSTANCES, SERIES_RELATED_INSTANCES = "00201208", "00201209"

# A person must act: credentials, URL.
MISCONFIGURED: Mapping[int, str] = {
    HTTPStatus.UNAUTHORIZED: "asks for credentials",
    HTTPStatus.FORBIDDEN: "forbids this to radnode",
    HTTPStatus.NOT_FOUND: "has no STOW-RS service at this URL",
    HTTPStatus.METHOD_NOT_ALLOWED: "has no STOW-RS service at this URL",
    HTTPStatus.PROXY_AUTHENTICATION_REQUIRED: "is behind a proxy that asks for credentials",
}
# Nothing gets through at the moment, whatever is sent.
DOWN: Mapping[int, str] = {
    HTTPStatus.TOO_MANY_REQUESTS: "wants fewer requests",
    HTTPStatus.BAD_GATEWAY: "cannot be reached by its gateway",
    HTTPStatus.SERVICE_UNAVAILABLE: "is busy",
    HTTPStatus.GATEWAY_TIMEOUT: "did not answer its gateway",
    HTTPStatus.INSUFFICIENT_STORAGE: "has no space left",
}
# There is no search at this URL; any other answer is that of a search, which may be answered otherwise tomorrow.
NO_SEARCH = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED})
# The object itself is at fault.
REFUSED: Mapping[int, tuple[type[DestinationRefused], str]] = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (DestinationRefused, "takes no object of this size"),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: (SopClassNotSupported, "does not take this SOP Class or Transfer Syntax"),
}
# Failure Reason (0008,1197) of STOW-RS alone, PS3.18 table I.2-2; for C-STORE it is one of "cannot understand".
TRANSFER_SYNTAX_NOT_SUPPORTED = 0xC122


class StowTransport:
    """Objects leave by STOW-RS."""

    def __init__(self, spec: DestinationSpec) -> None:
        self._service = WebService(spec, kind=("DICOMweb", "http://127.0.0.1:8042/dicom-web"))
        self._name, self._shown = spec.name, self._service.shown

    def send(self, parcels: Sequence[Parcel], report: Report) -> None:
        """Send the objects of one Study and report each one; see `Transport.send`."""
        with self._client() as client:
            for batch in _batches(parcels, report):
                self._send_batch(client, batch, report)

    def probe(self, *, connect_s: float | None = None) -> str:
        """Return in words that the service answers; asked by QIDO-RS, because a STOW-RS request would store something.

        Parameters
        ----------
        connect_s
            How long a TCP connection may take; seconds; None: as any silence.

        Raises
        ------
        DestinationDown
            If nobody answers, or the service cannot take anything now.
        Misconfigured
            If the URL or the credentials are wrong.
        """
        with self._client(connect_s) as client:
            status = self._service.ask(client.try_search)
        self._check_whole(status)
        return f"{self._shown} answers (HTTP {status})"

    def can_search(self) -> bool:
        """Return whether the service answers a search (QIDO-RS).

        Raises
        ------
        DestinationDown
            If nobody answers, or the service cannot answer now.
        Misconfigured
            If it asks for credentials, or forbids radnode to search.
        """
        with self._client() as client:
            status = self._service.ask(client.try_search)
        if status in NO_SEARCH:
            return False
        self._check_whole(status)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise DestinationDown(f"destination {self._name} failed to search (HTTP {status})")
        # One that does not like this search, which has no key, may like another.
        return True

    def find_instances(self, study_instance_uid: str, series_instance_uid: str) -> frozenset[str]:
        """Return the SOP Instance UID of every Instance of a Series that the service holds.

        Raises
        ------
        DestinationDown
            If nobody answers.
        DestinationBusy
            If it does not answer this.

        References
        ----------
        DICOM PS3.18 10.6
        """
        held: set[str] = set()

        def search(client: "_FileClient") -> frozenset[str]:
            return self._service.ask(lambda: client.search_page(study_instance_uid, series_instance_uid, len(held)))

        with self._client() as client:
            # A service that heeds no offset answers the same again.
            while not (page := search(client)) <= held:
                held |= page
        return frozenset(held)

    def count_series(self, study_instance_uid: str) -> tuple[SeriesCount, ...]:
        """Return what the service says of each Series of a Study that it holds.

        Raises
        ------
        DestinationDown
            If nobody answers.
        DestinationBusy
            If it does not answer this.

        References
        ----------
        DICOM PS3.18 10.6
        """
        counted: dict[str, SeriesCount] = {}
        with self._client() as client:
            while True:
                page = self._service.ask(partial(client.series_page, study_instance_uid, len(counted)))
                if page.keys() <= counted.keys():
                    return tuple(counted.values())
                counted |= page

    def count_study(self, study_instance_uid: str) -> int | None:
        """Return how many Instances of a Study the service says it holds; None where it does not count them.

        Raises
        ------
        DestinationDown, DestinationBusy
            As `count_series` does.
        """
        with self._client() as client:
            return self._service.ask(lambda: client.count_study(study_instance_uid))

    def search(
        self, ask: Callable[[DICOMwebClient, int], list[dict[str, Any]]], *, key: str
    ) -> tuple[Mapping[str, tuple[str, ...]], ...]:
        """Return every match of a search: the values of its elements as text, by tag.

        Parameters
        ----------
        ask
            Asks for the matches from this place on.
        key
            Tag of the UID that tells them apart.

        Raises
        ------
        DestinationDown, DestinationBusy
            As `count_series` does.

        References
        ----------
        DICOM PS3.18 10.6
        """
        found: dict[str, Mapping[str, tuple[str, ...]]] = {}
        with self._client() as client:
            while True:
                page = self._service.ask(partial(_all_values, partial(ask, client, len(found))))
                fresh = {"".join(match.get(key, ())): match for match in page}
                # A service that heeds no offset answers the same again.
                if fresh.keys() <= found.keys():
                    return tuple(match for uid, match in found.items() if uid)
                found |= fresh

    @contextmanager
    def _client(self, connect_s: float | None = None) -> Iterator["_FileClient"]:
        """Give a client whose connections are closed afterwards."""
        with self._service.session() as session:
            yield _FileClient(self._service.url, session, self._service.timeouts_s(connect_s))

    def _send_batch(self, client: "_FileClient", batch: Sequence[tuple[Parcel, bytes]], report: Report) -> None:
        """Send one request; one that failed as a whole is taken apart, so that one object cannot doom the others."""
        contents = [content for _, content in batch]
        response = self._service.ask(lambda: client.store_files(contents))
        answer = read_answer(response)
        if response.ok or mentions_instances(answer):
            for parcel, _ in batch:
                report(parcel, judge_instance(parcel.sop_instance_uid, answer, response.status_code))
        elif len(batch) > 1 and response.status_code not in MISCONFIGURED and response.status_code not in DOWN:
            for single in batch:
                self._send_batch(client, [single], report)
        else:
            outcome = self._judge_http(response.status_code)
            for parcel, _ in batch:
                report(parcel, outcome)

    def _check_whole(self, status: int) -> None:
        """Raise what concerns the whole Destination."""
        if status in MISCONFIGURED:
            raise Misconfigured(f"destination {self._name} {MISCONFIGURED[status]} (HTTP {status}): {self._shown}")
        if status in DOWN:
            raise DestinationDown(f"destination {self._name} {DOWN[status]} (HTTP {status})")

    def _judge_http(self, status: int) -> Outcome:
        """Return what follows for an object that was sent alone, or raise what concerns the whole Destination."""
        self._check_whole(status)
        if status in REFUSED:
            kind, words = REFUSED[status]
            return Outcome.refused(kind(f"destination {self._name} {words} (HTTP {status})"))
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            failed = DestinationRefused(f"destination {self._name} failed to process the object (HTTP {status})")
            return Outcome.retry(failed, tries=UNPROCESSED_TRIES)
        error = DestinationRefused(f"destination {self._name} did not take the object (HTTP {status})")
        return Outcome.retry(error, tries=DOUBTFUL_TRIES)


class _FileClient(DICOMwebClient):
    """A DICOMwebClient that stores files as they are; `store_instances` would decode and write them anew."""

    def __init__(self, url: str, session: requests.Session, timeouts_s: tuple[float, float]) -> None:
        super().__init__(url, session=session, timeout=timeouts_s, chunk_size=NEVER_CHUNKED)
        # dicomweb-client sends Host without the port, which servers with several names do not recognize.
        self.host = urlsplit(url).netloc
        self.set_http_retry_params(retry=False)

    def store_files(self, contents: Sequence[bytes]) -> requests.Response:
        """Return the answer to a request with these Part 10 files, also when it is an error."""
        # The boundary is new for each request: a fixed one could be planted in an object that is forwarded.
        content_type = f'multipart/related; type="application/dicom"; boundary="{uuid4().hex}"'
        body = self._encode_multipart_message(contents, content_type)
        headers = {"Content-Type": content_type, "Accept": "application/dicom+json"}
        try:
            return self._http_post(f"{self.base_url}/studies", body, headers)
        except requests.HTTPError as exc:
            if exc.response is None:
                raise
            return exc.response

    def try_search(self) -> int:
        """Return the HTTP status with which the server answers a search for one Study."""
        try:
            self.search_for_studies(limit=1)
        except requests.HTTPError as exc:
            if exc.response is None:
                raise
            return int(exc.response.status_code)
        return HTTPStatus.OK

    def search_page(self, study_instance_uid: str, series_instance_uid: str, offset: int) -> frozenset[str]:
        """Return SOP Instance UIDs of a Series from the place `offset` on; none where the service knows no Series."""

        def search() -> list[dict[str, Any]]:
            return self.search_for_instances(study_instance_uid, series_instance_uid, limit=PAGE, offset=offset)

        return frozenset(match[SOP_INSTANCE_UID] for match in _matches(search, SOP_INSTANCE_UID)) - {""}

    def series_page(self, study_instance_uid: str, offset: int) -> Mapping[str, SeriesCount]:
        """Return what is said of the Series of a Study from the place `offset` on, by UID."""
        fields = [SERIES_RELATED_INSTANCES, MODALITY]

        def search() -> list[dict[str, Any]]:
            return self.search_for_series(study_instance_uid, fields=fields, limit=PAGE, offset=offset)

        found = [
            SeriesCount(
                series_instance_uid=match[SERIES_INSTANCE_UID],
                modality=match[MODALITY],
                instances=read_count(match[SERIES_RELATED_INSTANCES]),
            )
            for match in _matches(search, SERIES_INSTANCE_UID, *fields)
        ]
        return {one.series_instance_uid: one for one in found if one.series_instance_uid}

    def count_study(self, study_instance_uid: str) -> int | None:
        """Return the number that is said of a Study; None where none is."""
        named = {"StudyInstanceUID": study_instance_uid}

        def search() -> list[dict[str, Any]]:
            return self.search_for_studies(search_filters=named, fields=[STUDY_RELATED_INSTANCES], limit=PAGE)

        counts = [read_count(match[STUDY_RELATED_INSTANCES]) for match in _matches(search, STUDY_RELATED_INSTANCES)]
        return None if None in counts else sum(count or 0 for count in counts)


def _matches(search: Callable[[], list[dict[str, Any]]], *tags: str) -> list[Mapping[str, str]]:
    """Return the first values of these elements of each match of a search; see `_all_values`."""
    return [{tag: (match.get(tag) or ("",))[0] for tag in tags} for match in _all_values(search)]


def _all_values(search: Callable[[], list[dict[str, Any]]]) -> list[Mapping[str, tuple[str, ...]]]:
    """Return the values of the elements of each match of a search; none where the service does not know the thing.

    Raises
    ------
    DestinationBusy
        If the service does not answer this, or with something that cannot be read.
    """
    try:
        return [{tag: _texts(element) for tag, element in match.items()} for match in search()]
    except requests.HTTPError as exc:
        if exc.response is None:
            raise
        if exc.response.status_code == HTTPStatus.NOT_FOUND:
            return []
        raise DestinationBusy(f"a search was answered with HTTP {exc.response.status_code}") from exc
    except (AttributeError, LookupError, TypeError, ValueError) as exc:
        raise DestinationBusy("the answer to a search cannot be read") from exc


def _texts(element: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the values of an element as text; of a name, its alphabetic form."""
    values = element.get("Value") or ()
    return tuple(str(one.get("Alphabetic", "") if isinstance(one, dict) else one) for one in values if one is not None)


def read_answer(response: requests.Response) -> Dataset:
    """Return the Store Instances Response (PS3.18 10.5.3), empty where the server gave none that can be read."""
    if "json" not in response.headers.get("Content-Type", ""):
        return Dataset()
    try:
        answer = response.json()
        return Dataset.from_json(answer[0] if isinstance(answer, list) else answer)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return Dataset()


def mentions_instances(answer: Dataset) -> bool:
    """Return whether `answer` says something about single Instances."""
    return bool(answer.get("ReferencedSOPSequence") or answer.get("FailedSOPSequence"))


def judge_instance(sop_instance_uid: str, answer: Dataset, http_status: int) -> Outcome:
    """Return what a server said about one Instance.

    Parameters
    ----------
    answer
        Store Instances Response Module.
    http_status
        Status of the response: 200 all stored, 202 some with failures or warnings, 409 none.

    References
    ----------
    DICOM PS3.18 10.5.3, PS3.3 C.34
    """
    for failed in answer.get("FailedSOPSequence") or ():
        if failed.get("ReferencedSOPInstanceUID") == sop_instance_uid:
            return _judge_failure(int(failed.get("FailureReason") or 0))
    for stored in answer.get("ReferencedSOPSequence") or ():
        if stored.get("ReferencedSOPInstanceUID") == sop_instance_uid:
            warning = stored.get("WarningReason")
            return Outcome.sent() if warning is None else judge_status(int(warning))
    if http_status == HTTPStatus.OK and not mentions_instances(answer):
        return Outcome.sent()
    # No word is no acknowledgment, as with a missing Status.
    return Outcome.retry(DestinationBusy(f"not mentioned in the answer (HTTP {http_status})"))


def _judge_failure(reason: int) -> Outcome:
    """Return what follows from a Failure Reason (0008,1197)."""
    if reason == SUCCESS:
        return Outcome.retry(DestinationBusy("listed as failed, without a reason"), tries=DOUBTFUL_TRIES)
    if reason == TRANSFER_SYNTAX_NOT_SUPPORTED:
        return Outcome.refused(SopClassNotSupported(f"failure reason {reason:04X}H: Transfer Syntax not supported"))
    return judge_status(reason)


def _batches(parcels: Sequence[Parcel], report: Report) -> Iterator[list[tuple[Parcel, bytes]]]:
    """Yield the objects with their bytes, gathered to requests; those that cannot be read are reported at once."""
    batch: list[tuple[Parcel, bytes]] = []
    gathered = 0
    for parcel in parcels:
        try:
            content = parcel.path.read_bytes()
        except OSError as exc:
            report(parcel, Outcome.unreadable(parcel.sop_instance_uid, exc))
            continue
        if not parcel.is_whole(len(content)):
            report(parcel, Outcome.cut(parcel.sop_instance_uid))
            continue
        if batch and gathered + len(content) > REQUEST_BYTES:
            yield batch
            batch, gathered = [], 0
        batch.append((parcel, content))
        gathered += len(content)
    if batch:
        yield batch
