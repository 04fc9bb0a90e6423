"""What a calibration chose is kept in a file: the first one counts, and a damaged one is none."""

import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from node.errors import StoreFull
from node.layouts import PLAIN, Calibration, Chosen, Grounds, Layout, LayoutBook, Memory, Precision, Trial

GROUNDS = Grounds(
    weights_sha256="ab" * 32, device="Fine CPU (avx2)", torch="2.13.0", numbers_sha256="12" * 32, product="0.1.0"
)
LAST = Layout(memory=Memory.CHANNELS_LAST)


def calibration(layout: Layout, *, grounds: Grounds = GROUNDS, model: str = "lungs") -> Calibration:
    trials = (Trial(layout=LAST, times_faster=1.3, difference=0.001),)
    return Calibration(
        model=model,
        version="1.0",
        grounds=grounds,
        networks={"one": Chosen(layout=layout, trials=trials), "two": Chosen(layout=PLAIN, trials=())},
        samples=4,
        at=datetime(2026, 1, 2, tzinfo=UTC),
    )


@pytest.fixture
def book(tmp_path: Path) -> LayoutBook:
    return LayoutBook(tmp_path / "calibration")


def test_what_was_kept_is_found_again(book: LayoutBook) -> None:
    assert book.find("lungs", GROUNDS) is None
    assert book.keep(calibration(LAST)) == calibration(LAST)
    assert book.find("lungs", GROUNDS) == calibration(LAST)


@pytest.mark.parametrize(
    "other",
    [
        replace(GROUNDS, weights_sha256="cd" * 32),
        replace(GROUNDS, device="Other CPU (avx2)"),
        replace(GROUNDS, torch="2.14.0"),
        replace(GROUNDS, numbers_sha256="34" * 32),
        replace(GROUNDS, product="0.2.0"),
    ],
    ids=["weights", "device", "torch", "numbers", "product"],
)
def test_on_other_grounds_nothing_was_chosen(book: LayoutBook, other: Grounds) -> None:
    book.keep(calibration(LAST))
    assert book.find("lungs", other) is None


def test_the_first_choice_counts(book: LayoutBook) -> None:
    book.keep(calibration(LAST))
    assert book.keep(calibration(PLAIN)) == calibration(LAST)
    assert book.find("lungs", GROUNDS) == calibration(LAST)


def test_a_person_may_replace_it(book: LayoutBook) -> None:
    book.keep(calibration(LAST))
    assert book.keep(calibration(PLAIN), replaces=True) == calibration(PLAIN)


def test_many_that_choose_at_once_agree(book: LayoutBook) -> None:
    start, kept = threading.Barrier(8), []

    def choose(layout: Layout) -> None:
        start.wait()
        kept.append(book.keep(calibration(layout)))

    threads = [threading.Thread(target=choose, args=(LAST if n % 2 else PLAIN,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = book.find("lungs", GROUNDS)
    assert found is not None
    assert kept == [found] * len(threads)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"format": 1}', b'{"format": 2}', b"\xff\xfe", b'{"format": 2, "networks": 3}'],
)
def test_a_damaged_file_is_ignored_and_written_anew(book: LayoutBook, tmp_path: Path, content: bytes) -> None:
    book.keep(calibration(LAST))
    (file,) = (tmp_path / "calibration").iterdir()
    file.write_bytes(content)
    assert book.find("lungs", GROUNDS) is None
    assert book.list_for("lungs", GROUNDS.weights_sha256) == ()
    assert book.keep(calibration(PLAIN)) == calibration(PLAIN)
    assert book.find("lungs", GROUNDS) == calibration(PLAIN)


def test_every_single_damaged_byte_is_survived(book: LayoutBook, tmp_path: Path) -> None:
    book.keep(calibration(LAST))
    (file,) = (tmp_path / "calibration").iterdir()
    whole = file.read_bytes()
    for place in range(0, len(whole), 7):
        file.write_bytes(whole[:place] + b"~" + whole[place + 1 :])
        book.find("lungs", GROUNDS)
        file.write_bytes(whole[:place])
        assert book.find("lungs", GROUNDS) is None


def test_choices_are_listed_for_the_weights_of_today_on_every_device(book: LayoutBook) -> None:
    other = replace(GROUNDS, device="GPU")
    old = replace(GROUNDS, weights_sha256="00" * 32)
    for grounds in (GROUNDS, other, old):
        book.keep(calibration(LAST, grounds=grounds))
    book.keep(calibration(LAST, model="lungs.other"))
    listed = book.list_for("lungs", GROUNDS.weights_sha256)
    assert {one.grounds for one in listed} == {GROUNDS, other}


def test_the_latest_choice_is_listed_last(book: LayoutBook) -> None:
    dates = [datetime(2026, month, 2, tzinfo=UTC) for month in (5, 1, 6, 3, 4, 2)]
    for number, date in enumerate(dates):
        book.keep(replace(calibration(LAST, grounds=replace(GROUNDS, product=f"0.{number}")), at=date))
    assert [one.at for one in book.list_for("lungs", GROUNDS.weights_sha256)] == sorted(dates)


def test_a_model_with_a_strange_name_stays_in_the_folder(book: LayoutBook, tmp_path: Path) -> None:
    book.keep(calibration(LAST, model="../../lungs"))
    assert book.find("../../lungs", GROUNDS) is not None
    assert not [path for path in tmp_path.rglob("*.json") if path.parent != tmp_path / "calibration"]


def test_a_folder_that_takes_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "calibration").write_text("a file")
    with pytest.raises(StoreFull, match="calibration"):
        LayoutBook(tmp_path / "calibration").keep(calibration(LAST))


def test_only_what_is_not_plain_is_worth_words() -> None:
    assert calibration(LAST).words == "one channels-last float32"
    assert not calibration(PLAIN).words
    assert not calibration(LAST).is_rounded
    assert calibration(Layout(precision=Precision.BFLOAT16)).is_rounded
