"""Each Destination gets what it takes: label maps, BINARY segments, or the picture; and the ledger says why."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import SegmentationStorage

from node.domain.capability import LABEL_MAP, WRITTEN_FORMS
from node.ledger.opening import open_capabilities
from node.ledger.views import StudyStory
from node.rehearsal.modality import send
from node.rehearsal.pacs import Misbehavior, SimulatedPacs
from node.settings.loading import load_settings
from tests.node_process import QUICK, NodeProcess, destination_table, run_radnode
from tests.peers import Orthanc, Storescp, wait_until
from tests.phantoms import small_brain_mr, small_chest_ct, small_chest_xray

CT = small_chest_ct().datasets
MR = small_brain_mr().datasets
XRAY = (small_chest_xray(with_opacity=True).dataset,)
SEG, SR, SC = (WRITTEN_FORMS[word][0] for word in ("SEG", "SR", "SC"))
LABEL_MAPS_WHERE_TAKEN = """
[pipelines.lung_nodules]
segmentation = "labelmap"

[pipelines.brain_tumour]
segmentation = "labelmap"

[[rules]]
name = "CT chest"
run = ["lung_nodules"]
deliver_to = ["orthanc"]
when = { modality = "CT" }

[[rules]]
name = "MR brain"
run = ["brain_tumour"]
deliver_to = ["orthanc", "archive"]
when = { modality = "MR" }
[rules.inputs]
flair = { series_description = "flair" }
t1c = { series_description = "t1.*post" }
t1 = { series_description = "t1.*pre" }

[[rules]]
name = "X-ray"
run = ["chest_xray"]
deliver_to = ["images"]
when = { modality = "DX" }
[rules.inputs]
image = { modality = "DX" }
"""
IMAGES_ONLY = r"""
[[TransferSyntaxes]]
[Uncompressed]
TransferSyntax1 = LocalEndianExplicit
TransferSyntax2 = LittleEndianImplicit
[[PresentationContexts]]
[Images]
PresentationContext1 = VerificationSOPClass\Uncompressed
PresentationContext2 = SecondaryCaptureImageStorage\Uncompressed
[[Profiles]]
[Images]
PresentationContexts = Images
"""


def table(name: str, aet: str, port: int) -> str:
    return f'[destinations.{name}]\ntransport = "cstore"\naet = "{aet}"\nhost = "127.0.0.1"\nport = {port}\n'


class Hospital:
    """A node among three archives: one takes everything, one no label maps, one only pictures."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        for name in ("node", "archive", "images"):
            (folder / name).mkdir()
        (folder / "images.cfg").write_text(IMAGES_ONLY)
        self.orthanc = stack.enter_context(Orthanc())
        self.archive = stack.enter_context(Storescp(folder / "archive"))
        self.images = stack.enter_context(Storescp(folder / "images", "-xf", str(folder / "images.cfg"), "Images"))
        destinations = (
            table("orthanc", self.orthanc.aet, self.orthanc.dicom_port)
            + table("archive", self.archive.aet, self.archive.port)
            + table("images", self.images.aet, self.images.port)
        )
        self.node = stack.enter_context(NodeProcess(folder / "node", QUICK + destinations + LABEL_MAPS_WHERE_TAKEN))

    def process(self, datasets: Sequence[Dataset]) -> StudyStory:
        """Send one Study and return its story once everything about it is settled."""
        assert not send(datasets, self.node.peer).failed
        return self.node.wait_for_study(
            str(datasets[0].StudyInstanceUID), lambda story: story.jobs and story.deliveries and story.is_finished
        )

    def in_orthanc(self, story: StudyStory) -> dict[str, Dataset]:
        """Return SOP Class UID to the Result that Orthanc holds."""
        held = self.orthanc.instances()
        uids = [result.sop_instance_uid for result in story.results if result.sop_instance_uid in held]
        datasets = [dcmread(BytesIO(self.orthanc.file(uid))) for uid in uids]
        return {str(ds.SOPClassUID): ds for ds in datasets}


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    with ExitStack() as stack:
        yield Hospital(tmp_path_factory.mktemp("hospital"), stack)


@pytest.mark.needs("Orthanc", "storescp")
def test_node_knows_what_each_destination_takes_before_the_first_study(hospital: Hospital) -> None:
    settings = load_settings(hospital.node.file)
    known = open_capabilities(settings)

    def describe() -> dict[str, str] | None:
        found = {name: known.find_capability(name, one.address) for name, one in settings.destinations.items()}
        words = {name: capability.describe() for name, capability in found.items() if capability is not None}
        return words if len(words) == len(found) else None

    assert wait_until(describe, what="all three were probed") == {
        "orthanc": "takes SEG, SR, SC, KO, PR, PDF, LABELMAP",
        "archive": "takes SEG, SR, SC, KO, PR, PDF; not LABELMAP",
        "images": "takes SC; not SEG, SR, KO, PR, PDF, LABELMAP",
    }


@pytest.mark.needs("Orthanc", "storescp")
def test_label_map_arrives_where_it_is_accepted_and_allowed(hospital: Hospital) -> None:
    story = hospital.process(CT)
    held = hospital.in_orthanc(story)
    assert set(held) == {LABEL_MAP[0], SR}
    segmentation = held[LABEL_MAP[0]]
    assert segmentation.SegmentationType == "LABELMAP"
    assert segmentation.file_meta.TransferSyntaxUID == LABEL_MAP[1]
    evidence = held[SR].CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    referenced = {item.ReferencedSOPInstanceUID for series in evidence for item in series.ReferencedSOPSequence}
    assert segmentation.SOPInstanceUID in referenced


@pytest.mark.needs("Orthanc", "storescp")
def test_one_destination_that_takes_no_label_map_means_binary_for_all(hospital: Hospital) -> None:
    story = hospital.process(MR)
    (binary,) = [ds for uid, ds in hospital.in_orthanc(story).items() if uid == SegmentationStorage]
    assert binary.SegmentationType == "BINARY"
    received = {str(ds.SOPClassUID): ds for ds in map(dcmread, hospital.archive.files())}
    assert set(received) == {SEG, SR}
    assert received[SEG] == binary
    assert all(delivery.state.has_arrived for delivery in story.deliveries)


@pytest.mark.needs("Orthanc", "storescp")
def test_destination_that_takes_pictures_only_gets_the_picture_once(hospital: Hospital) -> None:
    story = hospital.process(XRAY)
    assert [dcmread(path).SOPClassUID for path in hospital.images.files()] == [SC]
    states = {delivery.sop_class_uid: delivery for delivery in story.deliveries}
    assert (states[SR].state.value, states[SC].state.has_arrived) == ("REFUSED", True)
    assert (states[SR].reason_text or "").endswith("the summary picture goes instead")


def test_destination_that_refuses_seg_gets_sr_and_picture_and_the_commands_say_why(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    behavior = Misbehavior(refused_sop_classes=frozenset({SEG}))
    study = str(CT[0].StudyInstanceUID)
    with (
        SimulatedPacs(tmp_path / "pacs", misbehavior=behavior) as pacs,
        NodeProcess(tmp_path / "node", QUICK + destination_table(pacs.peer)) as node,
    ):
        assert not send(CT, node.peer).failed
        node.wait_for_study(study, lambda story: story.deliveries and story.is_finished)
        assert [instance.sop_class_uid for instance in pacs.record.received] == [SR, SC]
        said = {
            words: run_radnode(*words, "--settings", node.file, cwd=tmp_path).stdout
            for words in (("deliveries", "list"), ("studies", "show", study), ("doctor",))
        }
    for words in (("deliveries", "list"), ("studies", "show", study)):
        lines = [line for line in said[words].splitlines() if "the summary picture goes instead" in line]
        assert lines, said[words]
        assert "does not take SEG" in lines[0]
        kinds = {kind for line in said[words].splitlines() for kind in line.split() if kind in WRITTEN_FORMS}
        assert {"SEG", "SR", "SC"} <= kinds
    assert "takes SR, SC, KO, PR, PDF, LABELMAP; not SEG" in said["doctor",]
