"""What is measured of reading is measured of the same voxels."""

import pytest

from workers.benchmark.reading import CODEC, LIMIT, NAIVE, ONE, STORED, measure_reading


@pytest.mark.measuring
def test_all_ways_to_read_make_the_same_voxels_and_are_told_with_their_seconds() -> None:
    report = measure_reading(rounds=1, slices=3, compressed_slices=3)
    rows = {table["title"]: {row["name"]: row for row in table["rows"]} for table in report["tables"]}
    assert {"3 slices uncompressed, elapsed", "3 slices in JPEG-LS, cpu"} <= rows.keys()
    assert {LIMIT, ONE, NAIVE} <= rows["3 slices uncompressed, elapsed"].keys()
    assert {CODEC, STORED} <= rows["3 slices in JPEG-LS, cpu"].keys()
    assert all(0 < row["min_s"] <= row["median_s"] for row in rows["3 slices uncompressed, elapsed"].values())
    assert all(ratio["times_faster"] > 0 for ratio in report["ratios"])
