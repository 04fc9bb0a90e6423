"""From single Instances to what rules may ask of a Series and a Study."""

import random
from dataclasses import replace
from typing import Any

import pytest

from node.domain.result import OWN_MANUFACTURER
from node.domain.series_summary import summarize_series, summarize_study
from node.domain.study import InstanceFacts, SeriesState
from tests.ledgers import STUDY, make_facts

AXIAL = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
CORONAL = [1.0, 0.0, 0.0, 0.0, 0.0, -1.0]


def slices(positions: list[list[float]], orientation: list[float] = AXIAL, **attributes: Any) -> list[InstanceFacts]:
    return [
        make_facts(number, ImagePositionPatient=position, ImageOrientationPatient=orientation, **attributes)
        for number, position in enumerate(positions, start=1)
    ]


def test_spacing_comes_from_positions_along_the_normal() -> None:
    made = slices([[5.0, 6.0, z] for z in (10.0, 12.5, 15.0, 20.0)], SliceThickness=9.0)
    random.Random(1).shuffle(made)
    summary = summarize_series(made, SeriesState.OPEN)
    assert summary.slice_positions_mm == (10.0, 12.5, 15.0, 20.0)
    assert summary.slice_spacing_mm == 2.5


def test_the_normal_follows_the_orientation() -> None:
    summary = summarize_series(slices([[0.0, y, 0.0] for y in (0.0, 3.0, 6.0)], CORONAL), SeriesState.OPEN)
    assert summary.slice_spacing_mm == pytest.approx(3.0)


@pytest.mark.parametrize("orientation", [None, [1.0, 0.0], "x"])
def test_without_orientation_there_is_no_spacing(orientation: object) -> None:
    made = [
        replace(one, attributes={**one.attributes, "ImageOrientationPatient": orientation})
        for one in slices([[0, 0, 1]])
    ]
    summary = summarize_series(made, SeriesState.OPEN)
    assert (summary.slice_positions_mm, summary.slice_spacing_mm) == ((), None)


def test_a_position_of_two_numbers_is_no_position() -> None:
    made = slices([[0.0, 0.0, 1.0], [0.0, 0.0], [0.0, 0.0, 2.0]])
    assert summarize_series(made, SeriesState.OPEN).slice_positions_mm == (1.0, 2.0)


def test_one_slice_has_no_spacing() -> None:
    assert summarize_series(slices([[0.0, 0.0, 1.0]]), SeriesState.OPEN).slice_spacing_mm is None


def test_attributes_are_those_of_the_lowest_instance_number() -> None:
    made = [make_facts(number, SeriesDescription=f"d{number}") for number in (10, 9, 2)]
    assert summarize_series(made, SeriesState.OPEN).attributes["SeriesDescription"] == "d2"


def test_one_own_result_makes_the_series_our_own() -> None:
    made = [make_facts(1), make_facts(2, Manufacturer=OWN_MANUFACTURER)]
    assert summarize_series(made, SeriesState.OPEN).is_own_result
    assert not summarize_series(made[:1], SeriesState.OPEN).is_own_result


def test_series_stand_by_number_and_those_without_last() -> None:
    made = [
        make_facts(series=3, SeriesNumber=2.0),
        make_facts(series=1),
        make_facts(series=2, SeriesNumber=10.0),
        make_facts(2, series=3, SeriesNumber=2.0),
    ]
    study = summarize_study(STUDY, made, revision=4)
    assert [one.series_instance_uid for one in study.series] == [f"{STUDY}.3", f"{STUDY}.2", f"{STUDY}.1"]
    assert [len(one.sop_instance_uids) for one in study.series] == [2, 1, 1]
    assert study.revision == 4


def test_a_study_attribute_is_the_first_that_is_present() -> None:
    made = [
        make_facts(series=1, SeriesNumber=1.0),
        make_facts(series=2, SeriesNumber=2.0, StudyDescription="Thorax", SeriesDescription="not of the Study"),
    ]
    assert summarize_study(STUDY, made).attributes == {"StudyDescription": "Thorax"}
