"""UIDs: what is safe to store, and what follows from a question."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.domain.uids import MAX_UID_LENGTH, check_uid, derive_uid
from node.errors import BadIdentifier


@pytest.mark.parametrize("uid", ["1", "1.2.840.10008", "2.25.0001", "1." * 31 + "12"])
def test_a_uid_is_returned_as_it_is(uid: str) -> None:
    assert check_uid(uid, keyword="StudyInstanceUID") == uid


@pytest.mark.parametrize(
    "uid", ["", ".", "1.", ".1", "1..2", "1.2/../3", "../x", "1.2\n", "1.2 ", "1.2\x00", "\u0661.\u0662", "a", "1" * 65]
)
def test_anything_else_is_refused_and_named(uid: str) -> None:
    with pytest.raises(BadIdentifier, match="StudyInstanceUID") as caught:
        check_uid(uid, keyword="StudyInstanceUID")
    assert str(caught.value).isascii()
    assert "\n" not in str(caught.value)


def test_what_stands_in_place_of_a_uid_is_not_repeated() -> None:
    with pytest.raises(BadIdentifier, match="14 characters") as caught:
        check_uid("Quetzalcoatlus", keyword="StudyInstanceUID")
    assert "Quetz" not in str(caught.value)


@given(st.lists(st.text(), min_size=1))
def test_a_derived_uid_is_valid_and_always_the_same(parts: list[str]) -> None:
    uid = derive_uid(*[part.encode("utf-8", "replace").decode() for part in parts])
    assert check_uid(uid, keyword="x") == uid
    assert len(uid) <= MAX_UID_LENGTH
    assert uid.startswith("2.25.")
    assert uid == derive_uid(*[part.encode("utf-8", "replace").decode() for part in parts])


def test_other_parts_give_another_uid() -> None:
    assert len({derive_uid("a"), derive_uid("a", "b"), derive_uid("b", "a"), derive_uid("ab")}) == 4


def test_the_root_of_derived_uids_never_changes() -> None:
    """Old questions would get new answers: a second Result set in every archive."""
    assert derive_uid("radnode", "1") == "2.25.40716155485340599951028173960140175354"
