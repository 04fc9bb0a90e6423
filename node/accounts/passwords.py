"""Passwords: which ones are fit, and their hashes; the only door to argon2.

References: RFC 9106 4; NIST SP 800-63B 3.1.1.2.
"""

import unicodedata
from functools import cached_property
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from node.accounts.secret import new_secret
from node.errors import PasswordUnfit, TooManyLogins

MIN_LENGTH, MAX_LENGTH = 12, 256
MIN_KINDS = 4
RUNS = (
    "01234567890123456789",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
)
# The first that are tried, as far as they are long enough.
COMMON = frozenset({
    "administrator", "changemechangeme", "changeme1234", "iloveyou1234", "letmein12345", "passw0rd1234",
    "password1234", "password12345", "password123456", "passwordpassword", "qwerty123456", "welcome12345",
})  # fmt: skip
PRODUCT = "radnode"
# Each takes 64 MiB and some tens of milliseconds of every core; more at once would only wait for each other.
MEMORY_KIB = 65536
MAX_AT_ONCE = 2
WAIT_S = 10.0


def check_password(password: str, *, name: str) -> None:
    """Return if a password is fit for the user `name`; its length counts, not which kinds of signs it has.

    Raises
    ------
    PasswordUnfit
        If it is too short, too long, or easily guessed; the text does not quote it.
    """
    plain = _normal(password)
    if len(plain) < MIN_LENGTH:
        raise PasswordUnfit(f"a password has {MIN_LENGTH} characters at least; some words of your own will do")
    if len(plain) > MAX_LENGTH:
        raise PasswordUnfit(f"a password has {MAX_LENGTH} characters at most")
    small = plain.lower()
    rest = small.replace(name.lower(), "").replace(PRODUCT, "")
    if small in COMMON or len(set(small)) < MIN_KINDS or any(small in run * 2 for run in RUNS):
        raise PasswordUnfit("this password is one of the first that somebody would try; take some words of your own")
    if len(rest) < MIN_LENGTH // 2:
        raise PasswordUnfit("the name, or that of the product, is most of this password; take other words")


class PasswordHashes:
    """Makes and checks hashes (argon2id, RFC 9106 4, second recommended option), few at a time in one process.

    Parameters
    ----------
    memory_kib
        What making one takes, >= 32; less is for tests only.
    """

    def __init__(self, *, memory_kib: int = MEMORY_KIB) -> None:
        self._hasher = PasswordHasher(memory_cost=memory_kib)
        self._turns = BoundedSemaphore(MAX_AT_ONCE)

    def hash(self, password: str) -> str:
        """Return the hash of a password, with its salt and its costs.

        Raises
        ------
        TooManyLogins
            If so many others are at it that this one's turn did not come.
        """
        self._take_turn()
        try:
            return self._hasher.hash(_normal(password))
        finally:
            self._turns.release()

    def is_right(self, kept: str | None, password: str) -> bool:
        """Return whether `kept` is the hash of this password; None, which is of none, takes as long.

        Raises
        ------
        TooManyLogins
            If so many others are at it that this one's turn did not come.
        """
        if len(password) > MAX_LENGTH:
            return False
        self._take_turn()
        try:
            nobody = self._nobody
            self._hasher.verify(kept or nobody, _normal(password))
        except (VerificationError, InvalidHashError):
            return False
        else:
            return kept is not None
        finally:
            self._turns.release()

    @cached_property
    def _nobody(self) -> str:
        # What is compared where there is no hash, so that it takes as long.
        return self._hasher.hash(new_secret())

    def _take_turn(self) -> None:
        if not self._turns.acquire(timeout=WAIT_S):
            raise TooManyLogins("too many people log in at this moment; try again")


def _normal(password: str) -> str:
    # The same letters may come in other bytes from another keyboard (NIST SP 800-63B 3.1.1.2).
    return unicodedata.normalize("NFKC", password)
