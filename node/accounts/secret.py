"""Secrets that the node hands out: long and random, so that a plain digest is enough to know them again."""

import secrets
from base64 import urlsafe_b64encode
from hashlib import sha256
from hmac import digest as hmac_digest

RANDOM_BYTES = 32
# By it, whoever looks for lost secrets in a repository or a chat knows it as one.
TOKEN_PREFIX = "radnode_"  # noqa: S105 the prefix is no secret
# What is longer is none of ours, and is not worth a digest.
MAX_LENGTH = 128


def new_secret(prefix: str = "") -> str:
    """Return 256 random bits in letters, digits, - and _."""
    return prefix + secrets.token_urlsafe(RANDOM_BYTES)


def digest_of(secret: str) -> str:
    """Return by what a secret is known in the ledger: SHA-256, hexadecimal."""
    return sha256(secret.encode()).hexdigest()


def derive(secret: str, purpose: str) -> str:
    """Return another secret, which tells nothing of the first one: 43 letters, digits, - and _."""
    return urlsafe_b64encode(hmac_digest(secret.encode(), purpose.encode(), "sha256")).rstrip(b"=").decode()


def is_same(one: str, other: str) -> bool:
    """Return whether two secrets are the same; takes as long whichever place differs."""
    return secrets.compare_digest(one.encode(), other.encode())
