"""A folder with Studies that real pipelines have answered and Destinations have taken or refused: for many tests."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import UID

from node.clock import utc_now
from node.domain.result import DeliveryState
from node.domain.uids import StudyUID, derive_uid
from node.offline import OfflineNode
from node.settings.loading import load_settings
from node.site import build_routing
from node.workforce import spawn_worker
from tests.ledgers import Books, copy_ledger
from tests.phantoms import small_chest_ct, small_chest_xray

# What a page must show, and never run.
HOSTILE = "<script>document.title='broken'</script>"
ENVIRONMENT: Mapping[str, str] = {
    "RADNODE__STORE__RESERVE_BYTES": "0",
    "RADNODE__DESTINATIONS": (
        '{pacs1 = {transport = "cstore", aet = "PACS1", host = "127.0.0.1", port = 1}, '
        'archive = {transport = "cstore", aet = "ARCHIVE", host = "127.0.0.1", port = 1}}'
    ),
}
# Slices of the Study that no rule wants.
TOO_FEW = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredStudies:
    """Study Instance UIDs by what is in them.

    Attributes
    ----------
    ct
        Two nodules; all of it is at PACS1, its SEG was refused by ARCHIVE.
    xray
        A film with an opacity; nothing of it has left.
    unwanted
        Two slices with a hostile Series Description: no rule wants them.
    """

    folder: Path
    ct: StudyUID
    xray: StudyUID
    unwanted: StudyUID


def make_answered_studies(folder: Path) -> AnsweredStudies:
    """Take in phantoms, ask the rules, and let a real worker answer; the ledger and the store lie in `folder`."""
    url = copy_ledger(folder)
    placed = {"RADNODE__NODE__DATA_DIR": str(folder), "RADNODE__LEDGER__URL": url}
    settings = load_settings(None, {**ENVIRONMENT, **placed})
    ct, xray = small_chest_ct().datasets, [small_chest_xray(with_opacity=True).dataset]
    unwanted = _unwanted(ct)
    node, books = OfflineNode(settings), Books(url)
    try:
        assert list(node.take_in(_write(folder / "sent", [*ct, *xray, *unwanted]))) == []
        uids = [StudyUID(str(datasets[0].StudyInstanceUID)) for datasets in (ct, xray, unwanted)]
        for uid in uids:
            books.settle(study=uid, now=utc_now())
        build_routing(settings, books.engine).tick(utc_now())
        assert spawn_worker(settings, ("drain",)).wait() == 0
        _deliver(books, uids[0])
    finally:
        node.close()
        books.close()
    return AnsweredStudies(folder=folder, ct=uids[0], xray=uids[1], unwanted=uids[2])


def _unwanted(ct: Sequence[Dataset]) -> list[Dataset]:
    found = []
    for number, ds in enumerate(copy.deepcopy(list(ct[:TOO_FEW]))):
        ds.StudyInstanceUID, ds.SeriesInstanceUID = derive_uid("test", "unwanted"), derive_uid("test", "unwanted", "1")
        ds.SOPInstanceUID = UID(derive_uid("test", "unwanted", str(number)))
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.SeriesDescription = HOSTILE
        ds.PatientName = f"{HOSTILE}^Anna"
        found.append(ds)
    return found


def _write(folder: Path, datasets: Sequence[Dataset]) -> list[Path]:
    folder.mkdir()
    paths = []
    for number, ds in enumerate(datasets):
        paths.append(folder / f"{number:03}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
    return paths


def _deliver(books: Books, uid: StudyUID) -> None:
    for delivery in books.view.study_story(uid).deliveries:
        assert delivery.state is DeliveryState.PENDING
        if delivery.destination == "pacs1":
            books.deliveries.record_sent(delivery, now=utc_now(), reason_code=None, reason_text=None)
        elif delivery.sop_class_uid.endswith(".66.4"):
            refusal = {"reason_code": "sop-class-not-supported", "reason_text": "SEG is not accepted (0x03)"}
            books.deliveries.record_refused(delivery, now=utc_now(), **refusal)
