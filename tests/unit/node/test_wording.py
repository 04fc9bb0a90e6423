"""Words and figures as people read them."""

import pytest

from node.wording import brief, sentence

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
