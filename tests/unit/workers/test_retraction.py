"""What workers make of pending retractions; one that fails says why and hinders no other."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from node.domain.result import Result, ResultKind, ResultWishes
from node.domain.retraction import RejectionReason, RetractionOrder
from node.domain.uids import InstanceUID
from node.errors import Broken, ModelInvalid, PipelineUnknown, Transient
from node.ledger.retractions import RetractionLedger
from node.settings.loading import load_settings
from node.store.files import FileStore, Reserve
from tests.analyses import known
from tests.ledgers import Books, at, copy_ledger, make_outcome
from workers.app import build_registry
from workers.retraction import Registry, carry_out_retractions
from workers.shelving import shelve_result

ORDER = RetractionOrder(reason=RejectionReason.QUALITY, comment="", struck=(), ordered_by="reader")


class Site:
    """A ledger, a store, and Jobs whose Results were taken back."""

    def __init__(self, folder: Path) -> None:
        self.books = Books(copy_ledger(folder))
        self.store = FileStore(folder / "store", Reserve(reserve_bytes=0, reserve_percent=0))
        self.retractions = RetractionLedger(self.books.engine)

    def take_back(self, name: str, *, study: str, order: RetractionOrder = ORDER) -> Result:
        """Order the retraction of a Job that answered as `known` does; returns its SR."""
        job = self.books.claim(self.books.add_job(study=study))
        case, encoded = known(name)
        results = [shelve_result(self.store, job, one) for one in encoded]
        findings = [finding.as_json() for finding in case.analysis.findings]
        self.books.jobs.finish_job(job, replace(make_outcome(*results), findings=findings), now=at(1))
        report = next(result for result in results if result.kind is ResultKind.SR)
        self.retractions.order_retraction(InstanceUID(report.sop_instance_uid), order, now=at(2))
        return report

    def open_registry(self) -> Registry:
        """Return a registry in whose settings every Pipeline runs the model of the CT."""
        case, _ = known("ct")
        return Registry(
            retractions=self.retractions,
            jobs=self.books.jobs,
            store=self.store,
            card=lambda _: case.provenance.model,
            wishes=lambda _: ResultWishes(),
            node_aet="RADNODE",
            software_version="1.0",
            clock=lambda: at(9),
        )

    def written(self, report: Result) -> list[ResultKind]:
        """Return the kinds of what stands of the Job of `report`."""
        return [one.kind for one in self.books.jobs.results_of(report.job_id) if one.retracted_at is None]

    def alarms(self) -> list[str]:
        """Return the alarms, newest first."""
        return [event.kind for event in self.books.view.list_events(99) if event.is_alarm]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    opened = Site(tmp_path)
    yield opened
    opened.books.close()


def test_a_result_that_is_gone_from_the_store_hinders_no_other_retraction(site: Site) -> None:
    lost = site.take_back("ct", study="1.2.3")
    site.take_back("mr", study="1.2.4")
    site.store.delete(lost.path)
    (failure,) = carry_out_retractions(site.open_registry())
    assert isinstance(failure, Transient)
    (pending,) = site.retractions.pending_retractions()
    assert pending.job_id == lost.job_id


def test_a_result_that_is_damaged_in_the_store_hinders_no_other_retraction(site: Site) -> None:
    damaged = site.take_back("ct", study="1.2.3")
    site.take_back("mr", study="1.2.4")
    site.store.put(damaged.path, b"no DICOM")
    (failure,) = carry_out_retractions(site.open_registry())
    assert isinstance(failure, Broken)
    assert [one.job_id for one in site.retractions.pending_retractions()] == [damaged.job_id]


def test_a_pipeline_that_the_settings_know_no_more_is_named(tmp_path: Path) -> None:
    settings = load_settings(None, environment={"RADNODE__NODE__DATA_DIR": str(tmp_path)})
    with pytest.raises(PipelineUnknown, match="'retired' is unknown"):
        build_registry(settings).card("retired")


def test_the_note_goes_out_even_where_the_corrected_report_cannot_be_written(site: Site) -> None:
    """The Job was answered by a model of other weights than the one that stands there now."""
    order = replace(ORDER, struck=(known("ct")[0].analysis.findings[0].label,))
    report = site.take_back("ct", study="1.2.3", order=order)
    for _ in range(2):
        (failure,) = carry_out_retractions(site.open_registry())
        assert isinstance(failure, ModelInvalid)
    assert site.written(report) == [ResultKind.REJECTION_NOTE]
    assert site.alarms() == ["retraction-failed"]
    (pending,) = site.retractions.pending_retractions()
    assert (pending.noted_at, pending.reason_code) == (at(9), "model-invalid")


def test_nothing_takes_the_place_of_a_report_whose_findings_are_all_struck(site: Site) -> None:
    order = replace(ORDER, struck=tuple(finding.label for finding in known("ct")[0].analysis.findings))
    report = site.take_back("ct", study="1.2.3", order=order)
    assert carry_out_retractions(site.open_registry()) == ()
    assert site.written(report) == [ResultKind.REJECTION_NOTE]
    assert site.retractions.pending_retractions() == ()
