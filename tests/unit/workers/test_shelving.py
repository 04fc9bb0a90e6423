"""What the ledger is told of an encoded Result."""

from pathlib import Path

from node.domain.result import ResultKind
from node.store.files import FileStore, Reserve
from tests.analyses import known
from tests.ledgers import Books, copy_ledger
from workers.shelving import shelve_result

OF_PATIENT = {"PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyDate", "InstitutionName"}


def test_a_result_comes_with_what_is_searched_of_it_and_nothing_of_the_patient(tmp_path: Path) -> None:
    books = Books(copy_ledger(tmp_path))
    store = FileStore(tmp_path / "store", Reserve(reserve_bytes=0, reserve_percent=0))
    job, (_, encoded) = books.claim(books.add_job()), known("ct")
    shelved = {one.kind: shelve_result(store, job, one).attributes for one in encoded}
    books.close()
    assert {kind: attributes["Modality"] for kind, attributes in shelved.items()} == {
        ResultKind.SEG: "SEG",
        ResultKind.SR: "SR",
        ResultKind.SC: "OT",
    }
    assert {"SeriesDescription", "SeriesNumber", "InstanceNumber", "Rows", "NumberOfFrames"} <= set(
        shelved[ResultKind.SEG]
    )
    assert not OF_PATIENT & set().union(*shelved.values())
