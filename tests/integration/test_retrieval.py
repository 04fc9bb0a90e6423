"""Studies are fetched from an archive that we did not write, by each way that it has, and enter as if sent."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGLosslessSV1, MRImageStorage
from pynetdicom import AE, build_context, evt
from sqlalchemy import select

from node.clock import utc_now
from node.dimse.scp import ListenerSettings
from node.domain.fetch import Fetch, Fetched, FetchOrder, FetchReason, FetchState, FoundStudy, Retrieve, read_query
from node.domain.fetch_terms import FetchTerms, Poll
from node.domain.uids import SeriesUID, StudyUID
from node.intake.ports import IntakeTerms
from node.intake.station import Intake
from node.landing import Quay
from node.ledger.fetches import FetchFilter, FetchLedger
from node.ledger.pages import PageAsked
from node.ledger.schema import instances
from node.peers.command import VERIFICATION, SubOperations
from node.peers.peer import DestinationSpec
from node.peers.query import STUDY_ROOT_FIND
from node.pulling.carrier import Progress
from node.pulling.fetcher import Fetcher, Surroundings
from node.pulling.move import STUDY_ROOT_MOVE
from node.pulling.poller import Poller
from node.pulling.poller import Surroundings as Polling
from node.pulling.retrieval import Retrieval, open_retrieval
from node.pulling.search import open_search
from node.store.files import FileStore, Reserve
from tests.instances import MAX_INSTANCE_BYTES
from tests.ledgers import Books, copy_ledger
from tests.listeners import DicomListener
from tests.objects import CT, write_object
from tests.peers import Modality, Orthanc, free_port, spec_of, web_of

WAYS = [Retrieve.MOVE, Retrieve.GET, Retrieve.WADO]
ORDER = "an order"
NONE: Mapping[str, str] = MappingProxyType({})


class Nowhere:
    """Where nothing is to arrive."""

    taken = SubOperations()

    def begin(self, *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> NoReturn:
        raise AssertionError(sop_class_uid, sop_instance_uid, transfer_syntax_uid)

    def take_parts(self, boundary: str, chunks: Iterable[bytes]) -> NoReturn:
        raise AssertionError(boundary, chunks)

    def end(self) -> None:
        pass


@dataclass
class Site:
    """A node's listener, ledger and store, and an archive that knows it."""

    folder: Path
    orthanc: Orthanc
    books: Books
    queue: FetchLedger
    quay: Quay

    def spec(self, way: Retrieve, *, calling_aet: str = "RADNODE") -> DestinationSpec:
        """Return how the archive is called."""
        if way is Retrieve.WADO:
            return web_of(self.orthanc)
        return replace(spec_of(self.orthanc), calling_aet=calling_aet)

    def put(
        self,
        key: str,
        *numbers: int,
        kind: UID = CT,
        syntax: UID = ExplicitVRLittleEndian,
        attributes: Mapping[str, str] = NONE,
    ) -> StudyUID:
        """Put Instances of one Series into the archive; return their Study.

        Parameters
        ----------
        attributes
            Values that they have, by keyword.
        """
        study = ""
        for number in numbers:
            path = write_object(
                self.folder / key,
                str(number),
                study=key,
                sop_class_uid=kind,
                transfer_syntax_uid=syntax,
                pixel_bytes=0 if syntax.is_compressed else 512,
            )
            ds = dcmread(path)
            for keyword, value in attributes.items():
                setattr(ds, keyword, value)
            ds.save_as(path)
            self.orthanc.upload(path)
            study = ds.StudyInstanceUID
        return StudyUID(study)

    def fetcher(self, way: Retrieve, spec: DestinationSpec | None = None) -> Fetcher:
        """Return what works off the queue."""
        called = spec or self.spec(way)
        retrieve = way if way is not Retrieve.WADO else Retrieve.AUTO

        @contextmanager
        def open_peer() -> Iterator[Retrieval]:
            with self.quay.land(called) as landing, open_retrieval(called, landing, retrieve=retrieve) as retrieval:
                yield retrieval

        surroundings = Surroundings(open_retrieval=open_peer, clock=utc_now, chance=lambda: 0.0, ended=lambda: None)
        return Fetcher(source=way.value, queue=self.queue, terms=FetchTerms(), surroundings=surroundings)

    def order(self, study: StudyUID, way: Retrieve, *, behalf: str = ORDER, series: tuple[SeriesUID, ...] = ()) -> None:
        """Ask for a Study."""
        reason = FetchReason.PULL
        order = FetchOrder(source=way.value, study_instance_uid=study, reason=reason, on_behalf=behalf, series=series)
        self.queue.enqueue([order], now=utc_now())

    def fetch(
        self, study: StudyUID, way: Retrieve, *, behalf: str = ORDER, series: tuple[SeriesUID, ...] = ()
    ) -> Fetch:
        """Ask for a Study, fetch it, and return what became of that."""
        self.order(study, way, behalf=behalf, series=series)
        self.fetcher(way).tick(utc_now())
        return self.last(study)

    def last(self, study: StudyUID) -> Fetch:
        """Return what was asked for last of a Study."""
        return self.queue.fetches_of(study)[-1]

    def held(self, study: StudyUID) -> int:
        """Return how many Instances of a Study are here."""
        return sum(map(len, self.queue.held_instances(study).values()))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    books = Books(copy_ledger(folder))
    intake = Intake(
        store=FileStore(folder / "store", Reserve(reserve_bytes=0, reserve_percent=0.0)),
        ledger=books.instances,
        clock=utc_now,
        terms=IntakeTerms(own_results="store", max_instance_bytes=MAX_INSTANCE_BYTES),
    )
    settings = ListenerSettings(
        aet="RADNODE",
        bind="127.0.0.1",
        port=0,
        max_pdu_bytes=65536,
        max_associations=8,
        max_associations_per_peer=8,
        dimse_timeout_s=30.0,
    )
    listener = DicomListener(settings, intake)
    _, port = listener.start()
    with ThreadPoolExecutor(2) as closers:
        quay = Quay(intake=intake, association_prefix=lambda: "test.", closers=closers)
        known = {"radnode": Modality(aet="RADNODE", port=port)}
        open_to_all = {f"DicomAlwaysAllow{service}": True for service in ("Find", "Move", "Get")}
        with Orthanc(modalities=known, settings=open_to_all) as orthanc:
            yield Site(folder=folder, orthanc=orthanc, books=books, queue=FetchLedger(books.engine), quay=quay)
    listener.stop()
    books.close()


@pytest.mark.needs("Orthanc")
@pytest.mark.parametrize("way", WAYS)
def test_a_study_is_fetched_and_what_is_here_is_not_fetched_again(way: Retrieve, site: Site) -> None:
    study = site.put(way.value, 1, 2, 3)
    site.put(way.value, 4, kind=MRImageStorage)
    first = site.fetch(study, way)
    assert (first.state, first.fetched) == (FetchState.COMPLETED, Fetched(expected=4, done=4))
    assert site.held(study) == 4
    site.put(way.value, 5)
    second = site.fetch(study, way, behalf="again")
    assert (second.state, second.fetched) == (FetchState.COMPLETED, Fetched(expected=5, done=1, held=4))
    assert site.held(study) == 5
    assert site.fetch(study, way, behalf="once more").fetched == Fetched(expected=5, held=5)


@pytest.mark.needs("Orthanc")
@pytest.mark.parametrize("way", WAYS)
def test_only_the_series_that_were_asked_for_come(way: Retrieve, site: Site) -> None:
    key = f"series-{way.value}"
    study = site.put(key, 1, 2)
    site.put(key, 3, kind=MRImageStorage)
    series = SeriesUID(dcmread(site.folder / key / "3.dcm").SeriesInstanceUID)
    assert site.fetch(study, way, series=(series,)).fetched == Fetched(expected=1, done=1)
    assert set(site.queue.held_instances(study)) == {series}


def find(site: Site, way: Retrieve, text: str) -> tuple[FoundStudy, ...]:
    with open_search(site.spec(way)) as search:
        return search.find_studies(read_query(text))


@pytest.mark.needs("Orthanc")
@pytest.mark.parametrize("way", [Retrieve.GET, Retrieve.WADO])
def test_studies_are_found_by_what_a_person_knows(way: Retrieve, site: Site) -> None:
    study = site.put(
        f"find-{way.value}", 1, 2, attributes={"PatientID": "FIND-1", "StudyDescription": "Thorax für Åse"}
    )
    # The DICOMweb plugin of Orthanc 1.10 does not decode the asterisk.
    patient_id = "FIND-1" if way is Retrieve.WADO else "FIND*"
    (found,) = find(site, way, f"PatientID={patient_id},StudyInstanceUID={study},StudyDate=20250101-20251231")
    assert (found.study_instance_uid, found.patient_id, found.study_date) == (study, "FIND-1", "20250114")
    assert (found.modalities, found.series, found.instances) == (("CT",), 1, 2)
    assert found.description == "Thorax für Åse"
    assert find(site, way, rf"StudyInstanceUID={study},ModalitiesInStudy=MR\CT") == (found,)
    assert find(site, way, f"StudyInstanceUID={study},ModalitiesInStudy=MR") == ()
    assert find(site, way, f"StudyInstanceUID={study},StudyDate=20250115-") == ()
    with open_search(site.spec(way)) as search:
        assert [(one.modality, one.instances) for one in search.find_series(study)] == [("CT", 2)]


@pytest.mark.needs("Orthanc")
def test_an_archive_that_does_not_know_us_is_told_apart_and_gives_by_c_get(site: Site) -> None:
    study = site.put("stranger", 1)
    stranger = site.spec(Retrieve.GET, calling_aet="STRANGER")
    site.order(study, Retrieve.MOVE)
    site.fetcher(Retrieve.MOVE, stranger).tick(utc_now())
    refused = site.last(study)
    assert refused.state is not FetchState.COMPLETED
    assert "STRANGER" in str(refused.reason_text)
    assert "register" in str(refused.reason_text)
    site.order(study, Retrieve.AUTO, behalf="by itself")
    site.fetcher(Retrieve.AUTO, stranger).tick(utc_now())
    assert site.last(study).fetched == Fetched(expected=1, done=1)


@pytest.mark.needs("Orthanc")
def test_an_instance_comes_as_it_is_stored(site: Site) -> None:
    study = site.put("compressed", 1, syntax=JPEGLosslessSV1)
    assert site.fetch(study, Retrieve.GET).state is FetchState.COMPLETED
    with site.books.engine.connect() as connection:
        stored = select(instances.c.transfer_syntax_uid).where(instances.c.study_instance_uid == study)
        assert connection.execute(stored).scalars().all() == [JPEGLosslessSV1]


@pytest.mark.needs("Orthanc")
@pytest.mark.parametrize("way", [Retrieve.MOVE, Retrieve.GET])
def test_what_nobody_wants_any_more_ends_and_what_came_is_not_fetched_again(way: Retrieve, site: Site) -> None:
    study = site.put(f"ended-{way.value}", *range(1, 21))
    order = FetchOrder(source=way.value, study_instance_uid=study, reason=FetchReason.PULL)
    seconds, spec = count(), site.spec(way)
    with site.quay.land(spec) as landing:
        progress = Progress(lambda came: came.completed < 3, elapsed_s=lambda: 2.0 * next(seconds))
        with open_retrieval(spec, landing, retrieve=way) as retrieval:
            came = retrieval.fetch(order, {}, progress).done
    assert 3 <= came < 20
    assert not progress.is_wanted
    assert site.fetch(study, way).fetched == Fetched(expected=20, done=20 - came, held=came)


@pytest.mark.needs("Orthanc")
def test_a_study_that_is_not_there_is_not_fetched(site: Site) -> None:
    gone = StudyUID("1.2.3.4")
    assert site.fetch(gone, Retrieve.MOVE).reason_code == "retrieve-failed"
    assert site.last(gone).state is FetchState.SCHEDULED


class RefusingArchive:
    """An archive of pynetdicom's that has one Series, and answers each C-MOVE with one status."""

    def __init__(self, status: int) -> None:
        self._status = status

    def __enter__(self) -> DestinationSpec:
        ae = AE(ae_title="PACS")
        ae.add_supported_context(STUDY_ROOT_FIND)
        ae.add_supported_context(STUDY_ROOT_MOVE)
        ae.add_supported_context(VERIFICATION)
        handlers: list[Any] = [(evt.EVT_C_FIND, self._find), (evt.EVT_C_MOVE, self._move)]
        server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        assert server is not None
        self._server = server
        port: int = server.server_address[1]
        return DestinationSpec(name="pacs", transport="cstore", aet="PACS", host="127.0.0.1", port=port)

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        match = Dataset()
        match.QueryRetrieveLevel, match.SeriesInstanceUID = event.identifier.QueryRetrieveLevel, "1.2.3.1"
        match.NumberOfSeriesRelatedInstances = 2
        yield 0xFF00, match

    def _move(self, event: evt.Event) -> Iterator[object]:
        if self._status == 0xA801:
            yield None, None
            return
        yield "127.0.0.1", self._server.server_address[1], {"contexts": [build_context(VERIFICATION)]}
        yield 2
        yield self._status, None


@pytest.mark.parametrize(
    ("status", "code", "state", "words"),
    [
        (0xA701, "destination-busy", FetchState.SCHEDULED, "could not count"),
        (0xA702, "retrieve-failed", FetchState.SCHEDULED, "security.calling_aets"),
        (0xA801, "move-destination-unknown", FetchState.CANCELED, "register our AE title"),
        (0xC000, "retrieve-failed", FetchState.SCHEDULED, "C000H"),
    ],
)
def test_a_refusal_of_c_move_is_told_with_its_remedy(
    status: int, code: str, state: FetchState, words: str, tmp_path: Path
) -> None:
    books = Books(copy_ledger(tmp_path))
    queue, study = FetchLedger(books.engine), StudyUID("1.2.3")
    queue.enqueue([FetchOrder(source="pacs", study_instance_uid=study, reason=FetchReason.PULL)], now=utc_now())
    with RefusingArchive(status) as spec:
        opened = partial(open_retrieval, spec, Nowhere(), retrieve=Retrieve.AUTO)
        surroundings = Surroundings(open_retrieval=opened, clock=utc_now, chance=lambda: 0.0, ended=lambda: None)
        Fetcher(source="pacs", queue=queue, terms=FetchTerms(), surroundings=surroundings).tick(utc_now())
    (fetch,) = queue.fetches_of(study)
    assert (fetch.reason_code, fetch.state, fetch.failures) == (code, state, 1)
    assert words in str(fetch.reason_text)
    books.close()


def test_a_peer_that_is_away_is_waited_for(tmp_path: Path) -> None:
    books = Books(copy_ledger(tmp_path))
    queue, now = FetchLedger(books.engine), utc_now()
    away = DestinationSpec(name="away", transport="cstore", aet="AWAY", host="127.0.0.1", port=free_port())
    opened = partial(open_retrieval, away, Nowhere(), retrieve=Retrieve.AUTO)
    surroundings = Surroundings(open_retrieval=opened, clock=lambda: now, chance=lambda: 0.0, ended=lambda: None)
    fetcher = Fetcher(source="away", queue=queue, terms=FetchTerms(), surroundings=surroundings)
    study = StudyUID("1.2.3")
    queue.enqueue([FetchOrder(source="away", study_instance_uid=study, reason=FetchReason.PULL)], now=now)
    again = fetcher.tick(now)
    (fetch,) = queue.fetches_of(study)
    assert (fetch.state, fetch.failures, fetch.reason_code) == (FetchState.SCHEDULED, 0, "destination-down")
    assert again == fetch.not_before == now + timedelta(seconds=5)
    assert fetcher.tick(now) == again
    books.close()


@pytest.mark.needs("Orthanc")
def test_an_archive_that_cannot_send_is_asked_for_what_is_new(site: Site) -> None:
    began = utc_now().astimezone() - timedelta(minutes=30)
    when = {"StudyDate": f"{began:%Y%m%d}", "StudyTime": f"{began:%H%M%S}", "PatientID": "POLLED"}
    study = site.put("new", 1, attributes=when)
    site.put("old", 1, attributes={**when, "StudyDate": "20200101"})
    poll = Poll(query={"PatientID": "POLLED"}, every=timedelta(minutes=1), since=timedelta(hours=1))
    surroundings = Polling(open_search=partial(open_search, site.spec(Retrieve.GET)), clock=utc_now, chance=lambda: 0.0)

    def ask(minute: int) -> tuple[int, ...]:
        """Ask as a node does after its start, and return how many Instances of the Study are here then."""
        poller = Poller(source="get", ledger=site.queue, terms=FetchTerms(), poll=poll, surroundings=surroundings)
        now = utc_now() + timedelta(minutes=minute)
        assert poller.tick(now) == now + timedelta(minutes=1)
        fetcher = site.fetcher(Retrieve.GET)
        fetcher.tick(now)
        return site.held(study), site.last(study).attempts

    assert ask(1) == (1, 1)
    assert ask(3) == (1, 1)
    site.put("new", 2, attributes=when)
    assert ask(5) == (2, 2)
    polled = site.queue.list_fetches(FetchFilter(reason=FetchReason.POLL), PageAsked(limit=10)).rows
    assert [fetch.order.study_instance_uid for fetch in polled] == [study]
