"""The slices of a Series are numbered as people find them in their viewer."""

from io import BytesIO

from pydicom import dcmwrite

from node.header.scan import scan_file
from node.ledger.closeups import CloseupLedger
from tests.analyses import make_slices
from tests.enhanced import enhance
from tests.ledgers import STUDY, Books, make_facts


def test_an_image_of_one_frame_keeps_its_instance_number_and_frames_count_from_1(books: Books) -> None:
    slices = make_slices()
    images = [*(enhance([ds], str(number)) for number, ds in enumerate(slices[:3])), enhance(slices[3:])]
    for number, ds in enumerate(images, start=1):
        ds.InstanceNumber = number
        ds["PixelData"].VR = "OW"
        buffer = BytesIO()
        dcmwrite(buffer, ds, enforce_file_format=True)
        books.instances.record_instance(make_facts(number, **scan_file(buffer.getvalue()).attributes))
    found = CloseupLedger(books.engine).slices_of(STUDY, make_facts().series_instance_uid)
    assert sorted(one.number or 0 for one in found if one.frames == 1) == [1, 2, 3]
    assert sorted(one.number or 0 for one in found if one.frames == 9) == list(range(1, 10))
