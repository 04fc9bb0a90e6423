"""No patient of the evaluation data may be learned from, and no patient may be on two sides."""

from pathlib import Path

import pytest

from workers.training.kermany import patient_key
from workers.training.schedule import learning_rate
from workers.training.splits import read_exclusions, split_patients


def test_an_excluded_patient_is_in_no_part_and_the_parts_share_nobody() -> None:
    patients = [f"p{n % 40}" for n in range(200)]
    split = split_patients(patients, excluded={"p3", "p7"}, tune=5, held=10, seed=1)
    parts = (split.train, split.tune, split.held)
    assert not {"p3", "p7"} & set().union(*parts)
    assert sum(len(part) for part in parts) == len(set().union(*parts)) == 38
    assert split == split_patients(reversed(patients), excluded={"p3", "p7"}, tune=5, held=10, seed=1)


def test_exclusions_are_read_by_data_set(tmp_path: Path) -> None:
    path = tmp_path / "exclude.txt"
    path.write_text("# evaluation\nlgg TCGA_CS_5395\nkermany IM-0119\n\n", encoding="utf-8")
    assert read_exclusions(path, data_set="lgg") == {"TCGA_CS_5395"}
    assert read_exclusions(path, data_set="kermany") == {"IM-0119"}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("NORMAL2-IM-0545-0001.jpeg", "IM-0545"),
        ("IM-0545-0001-0002.jpeg", "IM-0545"),
        ("person1003_bacteria_2934.jpeg", "person1003"),
    ],
)
def test_a_patient_has_one_key_under_all_file_names(name: str, key: str) -> None:
    assert patient_key(name) == key


def test_a_name_without_patient_is_refused() -> None:
    with pytest.raises(ValueError, match="add its pattern"):
        patient_key("scan_17.jpeg")


def test_the_learning_rate_rises_and_falls_to_zero() -> None:
    rates = [learning_rate(step, steps=100, peak=1.0) for step in range(100)]
    assert max(rates) == pytest.approx(1.0)
    assert rates[0] < 0.5
    assert rates[-1] < 0.01
