"""What a trial of the nodule model says follows from its tallies."""

from workers.training.lung_trial import Half, Tally, Truth, summarize


def truth(half: Half, *, diameter_mm: float = 10.0, certainty: float | None = 0.8) -> Truth:
    measured_mm = None if certainty is None else 1.1 * diameter_mm
    measured_mm3 = None if certainty is None else 0.9 * diameter_mm**3
    return Truth(
        half=half,
        diameter_mm=diameter_mm,
        long_axis_mm=diameter_mm,
        volume_mm3=diameter_mm**3,
        kind="solid",
        site="free",
        certainty=certainty,
        measured_mm=measured_mm,
        measured_mm3=measured_mm3,
    )


TALLY = Tally(
    truths=(
        truth(Half.LEFT),
        truth(Half.LEFT, certainty=None),
        truth(Half.RIGHT, certainty=0.4),
        truth(Half.RIGHT, diameter_mm=5.0),
    ),
    false=((Half.LEFT, 0.9), (Half.RIGHT, 0.6), (Half.RIGHT, 0.3)),
)


def test_only_nodules_of_6_mm_and_findings_from_the_threshold_on_count() -> None:
    said = summarize([TALLY], threshold=0.5)
    assert said["false_findings"] == 2
    groups = said["groups"]
    assert isinstance(groups, dict)
    assert (groups["all"]["nodules"], groups["all"]["found"]) == (3, 1)
    assert (groups["4-6 mm"]["nodules"], groups["4-6 mm"]["found"]) == (1, 1)
    assert groups["all"]["long_axis_error"]["median"] == 0.1
    assert groups["all"]["within_15_percent"] == 1.0
    assert groups["all"]["volume_error"] == {"median": -0.1, "median_size": 0.1}


def test_a_curve_reads_off_what_is_found_at_so_many_false_findings_a_volume() -> None:
    froc = summarize([TALLY], threshold=0.5)["froc"]
    assert froc == {"0.25": 0.0, "0.5": 0.0, "1.0": 0.333, "2.0": 0.667, "4.0": 0.667, "8.0": 0.667}


def test_the_halves_share_out_everything() -> None:
    left, right = TALLY.only(Half.LEFT), TALLY.only(Half.RIGHT)
    assert len(left.truths) == len(right.truths) == 2
    assert (len(left.false), len(right.false)) == (1, 2)
