"""What a provider says of a person, and what that makes them here."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from node.domain.account import NAME, Role

# In the order in which they are believed to be a name that people know.
NAME_CLAIMS = ("preferred_username", "email", "name")
UNFIT = re.compile(r"[^a-z0-9._@+-]+")
MAX_NAME_LENGTH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleTerms:
    """Which claim tells what somebody is, and which values make them what.

    Attributes
    ----------
    claim
        Its name; dots lead into it.
    """

    claim: str
    values: Mapping[Role, Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody for whom a provider speaks.

    Attributes
    ----------
    subject
        Issuer and subject, which never change.
    name
        As they are called, fit to be a name here.
    role
        None: no value of the claim makes them anything.
    """

    subject: str
    name: str
    role: Role | None


def read_person(issuer: str, claims: Mapping[str, Any], terms: RoleTerms) -> Person:
    """Return who it is; of several roles, the one with the most rights."""
    held = _values_at(claims, terms.claim)
    order = (Role.ADMIN, Role.OPERATOR, Role.VIEWER)
    role = next((role for role in order if held & set(terms.values.get(role, ()))), None)
    subject = f"{issuer} {claims['sub']}"
    return Person(subject=subject, name=_name_of(claims, subject), role=role)


def has_claim(claims: Mapping[str, Any], terms: RoleTerms) -> bool:
    """Return whether the claim is there at all."""
    return bool(_values_at(claims, terms.claim))


def _values_at(claims: Mapping[str, Any], path: str) -> frozenset[str]:
    # A provider may have a claim whose name holds dots, such as a URL.
    found: Any = claims.get(path)
    if found is None:
        found = claims
        for step in path.split("."):
            found = found.get(step) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        return frozenset({found})
    return frozenset(one for one in found if isinstance(one, str)) if isinstance(found, list) else frozenset()


def _name_of(claims: Mapping[str, Any], subject: str) -> str:
    for claim in NAME_CLAIMS:
        said = claims.get(claim)
        name = UNFIT.sub("-", said.strip().lower()).strip("-._@+")[:MAX_NAME_LENGTH] if isinstance(said, str) else ""
        if NAME.match(name):
            return name
    return f"person-{sha256(subject.encode()).hexdigest()[:12]}"
