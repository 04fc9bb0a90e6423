"""Every Result is written in a form that Destinations are asked about."""

from collections.abc import Callable

import pytest

from node.domain.capability import LABEL_MAP, WRITTEN_FORMS
from node.domain.result import OptionalResult, ResultWishes, SegmentationForm
from tests.analyses import Case, ct_case, mr_case, xray_case
from workers.encoding.encoder import encode


@pytest.mark.parametrize("make", [ct_case, mr_case, xray_case])
@pytest.mark.parametrize("segmentation", SegmentationForm)
def test_every_result_is_written_in_a_known_form(make: Callable[[], Case], segmentation: SegmentationForm) -> None:
    case = make()
    wishes = ResultWishes(segmentation=segmentation, optional=frozenset(OptionalResult))
    results = encode(case.analysis, case.provenance, case.inputs, wishes)
    forms = {(result.sop_class_uid, result.transfer_syntax_uid) for result in results}
    assert forms <= set(WRITTEN_FORMS.values())
    has_volume = case.analysis.reference is not None
    assert (LABEL_MAP in forms) == (has_volume and segmentation is SegmentationForm.LABELMAP)
    assert WRITTEN_FORMS["SR"] in forms
    assert WRITTEN_FORMS["SC"] in forms
