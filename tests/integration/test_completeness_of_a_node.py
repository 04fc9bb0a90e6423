"""A node that runs asks who knows, hears who tells, waits through pauses, and goes on the moment all is here.

Its quiet times are so long that nothing but evidence settles a Study here.
"""

from collections.abc import Callable, Iterator

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE

from node.ledger.views import StudyStory
from node.rehearsal.modality import send
from tests.counting_archive import CountingArchive
from tests.instances import ct_slice
from tests.node_process import Launch, NodeProcess
from tests.storing import RULE_OF_NOTHING

MPPS = "1.2.840.10008.3.1.2.3.3"
SLICES = 6


def settings_with(archive: CountingArchive) -> str:
    return f"""
[assembly]
quiet_seconds = 300.0
idle_seconds = 600.0
doubt_seconds = 600.0

[sources.pacs]
aet = "PACS"
host = "127.0.0.1"
port = {archive.port}
{RULE_OF_NOTHING}"""


@pytest.fixture(scope="module")
def archive() -> Iterator[CountingArchive]:
    with CountingArchive() as running:
        yield running


@pytest.fixture(scope="module")
def node(archive: CountingArchive, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    folder = tmp_path_factory.mktemp("node")
    with NodeProcess(folder, settings_with(archive), launch=Launch(verb="serve")) as running:
        yield running


def slices_of(study: str) -> list[Dataset]:
    found = []
    for number in range(1, SLICES + 1):
        ds = ct_slice(sop_instance_uid=f"{study}.1.{number}", level=number)
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.InstanceNumber = study, f"{study}.1", number
        ds.file_meta = meta()
        found.append(ds)
    return found


def meta() -> FileMetaDataset:
    ds = FileMetaDataset()
    ds.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def has_reason(words: str) -> Callable[[StudyStory], bool]:
    return lambda story: words in story.reason


def is_routed(story: StudyStory) -> bool:
    return story.state == "ROUTED"


def test_a_study_goes_on_when_the_archive_holds_just_what_came(node: NodeProcess, archive: CountingArchive) -> None:
    study = "1.2.71"
    archive.series = {f"{study}.1": ("CT", SLICES)}
    assert not send(slices_of(study), node.peer, calling_aet="PACS").failed
    story = node.wait_for_study(study, is_routed, limit_s=120.0)
    assert story.reason == f"held {SLICES} of {SLICES} by C-FIND at pacs"
    assert story.series[0].reason == story.reason


def test_a_pause_is_waited_out_while_the_archive_holds_more(node: NodeProcess, archive: CountingArchive) -> None:
    study = "1.2.72"
    archive.series = {f"{study}.1": ("CT", SLICES)}
    datasets = slices_of(study)
    assert not send(datasets[:2], node.peer, calling_aet="PACS").failed
    node.wait_for_study(study, has_reason(f"held 2 of {SLICES} by C-FIND at pacs"), limit_s=120.0)
    asked = len(archive.levels)
    # Asked again, and the same said: still no end.
    node.wait_for_study(study, lambda story: len(archive.levels) > asked, limit_s=120.0)
    assert node.view.study_story(node.view.list_studies(1)[0].study_instance_uid).state == "OPEN"
    assert not send(datasets[2:], node.peer, calling_aet="PACS").failed
    story = node.wait_for_study(study, is_routed, limit_s=120.0)
    assert story.reason == f"held {SLICES} of {SLICES} by C-FIND at pacs"
    assert [event.kind for event in story.events].count("study-settled") == 1


def test_a_study_goes_on_when_its_procedure_step_is_over(node: NodeProcess) -> None:
    study, step = "1.2.73", "1.2.73.9"
    scheduled, created, over, series = Dataset(), Dataset(), Dataset(), Dataset()
    scheduled.StudyInstanceUID = study
    created.ScheduledStepAttributesSequence = [scheduled]
    created.PerformedProcedureStepStatus, created.PerformedSeriesSequence = "IN PROGRESS", []
    datasets = slices_of(study)
    series.SeriesInstanceUID = f"{study}.1"
    series.ReferencedImageSequence = [reference(ds) for ds in datasets]
    over.PerformedProcedureStepStatus, over.PerformedSeriesSequence = "COMPLETED", [series]
    modality = AE(ae_title="CT1")
    modality.add_requested_context(MPPS)
    assoc = modality.associate("127.0.0.1", node.peer.port, ae_title="RADNODE")
    assert assoc.is_established
    assert assoc.send_n_create(created, MPPS, step)[0].Status == 0x0000
    assert not send(datasets, node.peer, calling_aet="CT1").failed
    node.wait_for_study(study, has_reason("the Procedure Step is in progress by MPPS at CT1"), limit_s=120.0)
    assert assoc.send_n_set(over, MPPS, step)[0].Status == 0x0000
    assoc.release()
    story = node.wait_for_study(study, is_routed, limit_s=120.0)
    assert story.reason == f"held {SLICES} of {SLICES} by MPPS at CT1"


def reference(ds: Dataset) -> Dataset:
    one = Dataset()
    one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    return one
