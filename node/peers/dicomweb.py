"""A DICOMweb service as its client: what it holds, asked by QIDO-RS, and requests with files as they are."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import requests
from dicomweb_client.web import DICOMwebClient

from node.errors import DestinationBusy, DestinationDown, Misconfigured
from node.peers.peer import DestinationSpec
from node.peers.query import SeriesCount, read_count
from node.peers.web_service import Answer, WebService

# dicomweb-client would switch to chunked transfer encoding above 1 MB, which some servers refuse.
NEVER_CHUNKED = 1 << 40

# How many matches of a search are asked for at once.
PAGE = 1000
Found = TypeVar("Found")
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


class DicomwebService:
    """One DICOMweb service: what it holds, whether it answers, and the client by which files are stored there."""

    def __init__(self, spec: DestinationSpec) -> None:
        self._service = WebService(spec, kind=("DICOMweb", "http://127.0.0.1:8042/dicom-web"))
        self._name, self._shown = spec.name, self._service.shown

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
        with self.client(connect_s) as client:
            status = self._service.ask(client.try_search)
        self.check_whole(status)
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
        with self.client() as client:
            status = self._service.ask(client.try_search)
        if status in NO_SEARCH:
            return False
        self.check_whole(status)
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

        def read(client: "FileClient", at: int) -> Mapping[str, None]:
            return dict.fromkeys(client.search_page(study_instance_uid, series_instance_uid, at))

        return frozenset(self._gather(read))

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
        return tuple(self._gather(lambda client, at: client.series_page(study_instance_uid, at)).values())

    def count_study(self, study_instance_uid: str) -> int | None:
        """Return how many Instances of a Study the service says it holds; None where it does not count them.

        Raises
        ------
        DestinationDown, DestinationBusy
            As `count_series` does.
        """
        with self.client() as client:
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

        def read(client: DICOMwebClient, at: int) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
            return {"".join(match.get(key, ())): match for match in _all_values(partial(ask, client, at))}

        return tuple(match for uid, match in self._gather(read).items() if uid)

    def _gather(self, read: Callable[["FileClient", int], Mapping[str, Found]]) -> Mapping[str, Found]:
        """Return what page after page of a search brings, by UID; `read` is told from which place on."""
        found: dict[str, Found] = {}
        with self.client() as client:
            while True:
                page = self._service.ask(partial(read, client, len(found)))
                # A service that heeds no offset answers the same again.
                if page.keys() <= found.keys():
                    return found
                found |= page

    @contextmanager
    def client(self, connect_s: float | None = None) -> Iterator["FileClient"]:
        """Give a client whose connections are closed afterwards."""
        with self._service.session() as session:
            yield FileClient(self._service.url, session, self._service.timeouts_s(connect_s))

    def ask(self, question: Callable[[], Answer]) -> Answer:
        """Return the answer of the service, whatever it is; see `WebService.ask`."""
        return self._service.ask(question)

    def check_whole(self, status: int) -> None:
        """Raise what an HTTP status says of the service as a whole.

        Raises
        ------
        DestinationDown
            If nothing gets through at the moment, whatever is sent.
        Misconfigured
            If a person must act first.
        """
        if status in MISCONFIGURED:
            raise Misconfigured(f"destination {self._name} {MISCONFIGURED[status]} (HTTP {status}): {self._shown}")
        if status in DOWN:
            raise DestinationDown(f"destination {self._name} {DOWN[status]} (HTTP {status})")


class FileClient(DICOMwebClient):
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
