"""Every code of every Result stands in the table of codes, with one meaning."""

from collections.abc import Iterator

import pytest
from pydicom import Dataset

from node.domain import codes
from node.domain.codes import Code
from node.domain.result import OptionalResult, SegmentationForm
from tests.analyses import known, read_results

TABLE = {(code.value, code.scheme): code.meaning for code in vars(codes).values() if isinstance(code, Code)}


def walk_codes(ds: Dataset) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield value and scheme, and meaning, of each coded concept in `ds`."""
    if "CodeValue" in ds:
        yield (str(ds.CodeValue), str(ds.CodingSchemeDesignator)), str(ds.CodeMeaning)
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                yield from walk_codes(item)


@pytest.mark.parametrize("form", SegmentationForm)
@pytest.mark.parametrize("name", ["ct", "mr", "xray"])
def test_every_code_of_every_result_is_in_the_table(name: str, form: SegmentationForm) -> None:
    results = known(name)[0].encode(*OptionalResult, segmentation=form)
    found = {code for ds in read_results(results).values() for code in walk_codes(ds)}
    assert len(found) > 20
    assert {code for code in found if code[0] not in TABLE} == set()
    assert {code for code in found if TABLE[code[0]].casefold() != code[1].casefold()} == set()
