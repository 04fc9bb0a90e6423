"""A heat map is valid on every kind of film: with and without spacing, orientation, Frame of Reference."""

from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import DigitalXRayImageStorageForPresentation

from node.domain.result import OptionalResult, ResultKind
from tests.analyses import xray_case
from tests.validators import list_errors
from workers.proving.check import check_results

ODD_FILMS: dict[str, dict[str, Any]] = {
    "no orientation": {"PatientOrientation": None, "ImagerPixelSpacing": None},
    "one letter of orientation": {"PatientOrientation": "L"},
    "pixel spacing": {"PixelSpacing": ["0.2", "0.2"]},
    "a spacing of zero": {"PixelSpacing": ["0", "0"]},
    "half a spacing": {"PixelSpacing": "0.2"},
    "a frame of reference and spacing": {"FrameOfReferenceUID": "1.2.3", "PixelSpacing": ["0.2", "0.2"]},
    "a place": {
        "FrameOfReferenceUID": "1.2.3",
        "ImagePositionPatient": ["0", "0", "0"],
        "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
    },
    "digital X-ray": {"SOPClassUID": DigitalXRayImageStorageForPresentation},
}


@pytest.mark.needs("dciodvfy")
@pytest.mark.parametrize("name", ODD_FILMS)
def test_the_heat_map_of_an_odd_film_has_no_errors(name: str, tmp_path: Path) -> None:
    case = xray_case(**ODD_FILMS[name])
    results = case.encode(OptionalResult.HEAT_MAP)
    check_results(results, case.analysis, case.inputs)
    (heat_map,) = (result for result in results if result.kind is ResultKind.SEG)
    path = tmp_path / "heat.dcm"
    path.write_bytes(heat_map.content)
    assert list_errors(path) == []
