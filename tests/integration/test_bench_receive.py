"""`radnode bench receive…` from the command line to the page: everything arrives, and no figure is asserted."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.node_process import run_radnode

pytestmark = [pytest.mark.needs("storescp"), pytest.mark.needs("storescu")]


def measure(folder: Path, *arguments: str) -> str:
    """Return what a command printed and wrote."""
    page = folder / "docs" / "benchmarks.md"
    page.parent.mkdir()
    page.write_text("# Benchmarks\n")
    ran = run_radnode("bench", *arguments, "--write", cwd=folder)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() in page.read_text()
    assert f"`radnode bench {arguments[0]} " in page.read_text()
    return ran.stdout


def rows_of(told: str) -> Sequence[Mapping[str, str]]:
    """Return the first table of a page, cell by header."""
    lines = [line.strip("| ").split(" | ") for line in told.split("\n\n")[1].splitlines()]
    return [dict(zip(lines[0], (cell.strip() for cell in line), strict=True)) for line in lines[2:]]


@pytest.mark.measuring
def test_each_client_sends_everything_and_ours_tells_how_long_each_took(tmp_path: Path) -> None:
    told = measure(
        tmp_path,
        *("receive", "--load", "3x30", "--rounds", "1", "--associations", "2"),
        *("--only", "storescp fork", "--only", "radnode fsync", "--folder", str(tmp_path)),
    )
    rows = rows_of(told)
    assert [(row["receiver"], row["client"]) for row in rows] == [
        ("storescp fork", "storescu"),
        ("storescp fork", "timed"),
        ("radnode fsync", "storescu"),
        ("radnode fsync", "timed"),
    ]
    assert {row["stored == sent"] for row in rows} == {"yes"}
    assert {row["Instances"] for row in rows} == {"3"}
    assert [row["times storescp fork"] for row in rows[:2]] == ["1.00", "1.00"]
    assert all(bool(row["p99 ms"]) == (row["client"] == "timed") for row in rows)
    assert all(float(row["p50 ms"]) > 0 for row in rows if row["p50 ms"])
    assert all(float(row["peak MB"]) > 0 for row in rows)
    assert not [left for left in tmp_path.iterdir() if left.name.startswith("radnode-bench-")]


def test_associations_are_opened_with_few_contexts_and_with_as_many_as_there_can_be(tmp_path: Path) -> None:
    told = measure(tmp_path, "receive-set-up", "--associations", "2", "--rounds", "1", "--only", "storescp tuned")
    few, many = rows_of(told)
    assert (few["contexts proposed"], few["accepted"], few["Associations"]) == ("3", "3", "2")
    # dcmtk knows fewer Storage SOP Classes than the newest standard has.
    assert many["contexts proposed"] == "128"
    assert 100 < int(many["accepted"]) <= 128
    assert all(0 < float(row["p50 ms"]) <= float(row["p99 ms"]) for row in (few, many))


def test_the_same_bytes_are_kept_in_every_way_without_dicom(tmp_path: Path) -> None:
    options = ("--load", "3x30", "--rounds", "1", "--associations", "2", "--folder", str(tmp_path))
    rows = rows_of(measure(tmp_path, "receive-floor", *options))
    ways = ["read, written", "read, BLAKE3, written", "spliced, BLAKE3"]
    assert [(row["what is done with the bytes"], row["durable"]) for row in rows] == [
        (way, durable) for durable in ("no", "yes") for way in ways
    ]
    assert {row["Instances"] for row in rows} == {"6"}
    assert all(float(row["Instances/s"]) > 0 and float(row["CPU s/GB"]) > 0 for row in rows)


@pytest.mark.measuring
def test_silent_associations_are_held_to_the_end(tmp_path: Path) -> None:
    told = measure(tmp_path, "receive-idle", "--associations", "20", "--seconds", "0.5", "--only", "radnode fsync")
    (row,) = rows_of(told)
    # More than one address may have unless the settings say so.
    assert (row["Associations"], row["still open"]) == ("20", "20")


@pytest.mark.measuring
def test_large_instances_arrive_whole_and_their_memory_is_told(tmp_path: Path) -> None:
    told = measure(tmp_path, "receive-memory", "--instances", "2", "--mebibytes", "8", "--only", "storescp fork")
    (row,) = rows_of(told)
    assert row["stored == sent"] == "yes"
    idle, peak, above = (float(row[name]) for name in ("idle MiB", "peak MiB", "above idle MiB"))
    assert above == pytest.approx(peak - idle, abs=0.11)


def test_a_receiver_that_nobody_knows_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    ran = run_radnode("bench", "receive", "--only", "nobody", cwd=tmp_path)
    assert ran.returncode == 2
    assert "'nobody'" in ran.stderr
    assert "storescp tuned" in ran.stderr
