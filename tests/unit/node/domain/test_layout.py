"""What images say of how many there are: holes between slices, Instance Numbers, Images in Acquisition."""

import pytest

from node.domain.completeness import Evidence
from node.domain.layout import Place, doubt_series

AXIAL = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
GAPS = frozenset({Evidence.SLICE_GAPS})
ACQUISITION = frozenset({Evidence.IN_ACQUISITION})


def slices(*positions_mm: float) -> list[Place]:
    return [
        Place.of({"ImageOrientationPatient": AXIAL, "ImagePositionPatient": [0.0, 0.0, z], "InstanceNumber": 1.0})
        for z in positions_mm
    ]


def numbers(*found: float) -> list[Place]:
    return [Place.of({"InstanceNumber": number}) for number in found]


@pytest.mark.parametrize(
    ("places", "text"),
    [
        (slices(0, 2.5, 5, 10, 12.5, 15), "1 hole of 5 mm among slices 2.5 mm apart"),
        (slices(0, 2, 4, 10, 12, 14, 16, 20, 22, 24), "2 holes of 6 mm among slices 2 mm apart"),
        (slices(0, 2.5, 5, 7.5, 10), None),
        (slices(10, 0, 5, 2.5, 7.5), None),
        (slices(0, 0, 5, 5, 10, 10), None),
        (slices(0, 0, 0, 0), None),
        (slices(0, 5, 30), None),
        (slices(0, 1, 5, 6, 10, 11), None),
        (numbers(1, 2, 3, 5, 6), "1 Instance Number (0020,0013) missing between 1 and 6"),
        (numbers(1, 3, 5, 7, 11, 13, 15), "1 Instance Number (0020,0013) missing between 1 and 15"),
        (numbers(1, 2, 3, 4, 5), None),
        (numbers(1, 3, 5, 7), None),
        (numbers(1, 2, 4), None),
        (numbers(1, 1, 1, 1, 1), None),
        ([], None),
        ([Place.of({}), Place.of({"ImagePositionPatient": "x", "InstanceNumber": "y"})], None),
    ],
)
def test_a_hole_is_a_distance_beyond_the_usual_one(places: list[Place], text: str | None) -> None:
    doubt = doubt_series(places, GAPS)
    assert (None if doubt is None else doubt.text) == text
    assert doubt_series(places, frozenset()) is None


def test_positions_go_before_numbers() -> None:
    places = [
        Place.of({"ImageOrientationPatient": AXIAL, "ImagePositionPatient": [0, 0, z], "InstanceNumber": number})
        for z, number in ((0, 1), (2, 2), (4, 9), (6, 10), (8, 11))
    ]
    assert doubt_series(places, GAPS) is None


def test_images_in_acquisition_count_those_of_their_acquisition() -> None:
    def images(acquisition: float, held: int, told: float) -> list[Place]:
        return [Place.of({"AcquisitionNumber": acquisition, "ImagesInAcquisition": told})] * held

    assert doubt_series([*images(1, 3, 3), *images(2, 4, 4)], ACQUISITION) is None
    doubt = doubt_series([*images(1, 3, 3), *images(2, 2, 4)], ACQUISITION)
    assert doubt is not None
    assert doubt.text == "held 2 of 4 Images in Acquisition (0020,1002)"
    assert doubt_series([Place.of({})], ACQUISITION) is None
