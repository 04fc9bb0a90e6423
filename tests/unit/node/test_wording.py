"""Words and figures as people read them."""

import pytest

from node.cli.process import describe_finding
from node.domain.codes import PNEUMONIA
from node.domain.finding import Finding
from node.domain.percent import certainty, percent
from node.wording import brief, sentence
from workers.drawing.wording import say_certainty

UID = "2.25.149353972721365543085465994224135271755"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"instance {UID}: cut", "instance 2.25.149…271755: cut"),
        (f"{UID}, {UID}", "2.25.149…271755, 2.25.149…271755"),
        ("spacing 2.5 mm, version 1.4.0, at 127.0.0.1:104", "spacing 2.5 mm, version 1.4.0, at 127.0.0.1:104"),
    ],
)
def test_uids_in_a_text_are_shortened_and_nothing_else(text: str, words: str) -> None:
    assert brief(text) == words


def test_a_sentence_begins_with_a_capital() -> None:
    assert sentence(f"instance {UID} is cut") == "Instance 2.25.149…271755 is cut"


@pytest.mark.parametrize(
    ("threshold", "words"), [(0.11, "11 %"), (0.5, "50 %"), (0.995, "99.5 %"), (0.07, "7 %"), (1.0, "100 %")]
)
def test_a_threshold_is_never_told_higher_than_it_is(threshold: float, words: str) -> None:
    assert percent(threshold) == words


@pytest.mark.parametrize(
    ("confidence", "words"),
    [(0.0, "< 1 %"), (0.004, "< 1 %"), (0.11, "11 %"), (0.994, "99 %"), (0.9963, "> 99 %"), (1.0, "> 99 %")],
)
def test_no_model_is_certain_in_the_console_in_the_terminal_and_on_the_picture(confidence: float, words: str) -> None:
    film = Finding(label="Pneumonia", code=PNEUMONIA, confidence=confidence)
    assert certainty(confidence) == words
    assert say_certainty(film) == words
    assert describe_finding(film.as_json()) == f"Pneumonia present, {words}"
