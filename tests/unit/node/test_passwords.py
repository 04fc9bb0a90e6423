"""Which passwords are fit, and what their hashes are good for."""

import pytest

from node.accounts.passwords import PasswordHashes, check_password
from node.errors import PasswordUnfit


@pytest.mark.parametrize(
    "password",
    ["five words of my own", "Tr0ub4dor&3 plus", "пять моих слов", "            a b c d", "a" * 8 + "bcd" + "é" * 200],
)
def test_words_of_any_kind_are_fit(password: str) -> None:
    check_password(password, name="ada")


@pytest.mark.parametrize(
    ("password", "said"),
    [
        ("eleven chrs", "12 characters at least"),
        ("x" * 257, "256 characters at most"),
        ("passwordpassword", "first that somebody would try"),
        ("PassWord1234", "first that somebody would try"),
        ("aaaaaaaaaaaa", "first that somebody would try"),
        ("121212121212", "first that somebody would try"),
        ("123456789012", "first that somebody would try"),
        ("qwertyuiopas", "first that somebody would try"),
        ("adalovelaceadalovelace", "the name"),
        ("radnode-radnode-1", "the name"),
        # Twelve signs on one keyboard, three letters on another.
        ("\ufb03" * 3, "12 characters at least"),
    ],
)
def test_what_would_be_guessed_is_not(password: str, said: str) -> None:
    with pytest.raises(PasswordUnfit, match=said) as caught:
        check_password(password, name="adalovelace")
    assert password not in str(caught.value)


def test_a_hash_knows_its_password_from_any_keyboard_and_no_other() -> None:
    assert PasswordHashes().hash("five words of my own").startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    hashes = PasswordHashes(memory_kib=64)
    kept = hashes.hash("fu\u0308nf Worte von mir")
    assert hashes.is_right(kept, "f\u00fcnf Worte von mir")
    assert not hashes.is_right(kept, "funf Worte von mir")
    assert not hashes.is_right(None, "f\u00fcnf Worte von mir")
    assert not hashes.is_right("no hash at all", "f\u00fcnf Worte von mir")
    assert not hashes.is_right(kept, "x" * 1_000_000)
