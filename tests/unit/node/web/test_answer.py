"""The answer to a request that stores, where much of it failed."""

from collections.abc import Sequence
from dataclasses import dataclass

from node.errors import UidMismatch
from node.web.answer import FAILED_SOP_SEQUENCE, OTHER_FAILURES_SEQUENCE, response_module
from node.web.submission import Failed, Stored


class NeverCompared(UidMismatch):
    """A cause that nobody may hold against another one."""

    __hash__ = UidMismatch.__hash__

    def __eq__(self, other: object) -> bool:
        raise AssertionError("each failure is compared with the others, which takes time by their square")


@dataclass(frozen=True)
class Outcomes:
    """What became of a request."""

    failed: Sequence[Failed]
    stored: Sequence[Stored] = ()


def failure(*, uid: str) -> Failed:
    return Failed(sop_class_uid="1.2", sop_instance_uid=uid, cause=NeverCompared("x"))


def test_failures_are_sorted_without_holding_one_against_the_other() -> None:
    failed = [failure(uid="1.2.3"), failure(uid="1.2.3"), failure(uid="")]
    module = response_module(Outcomes(failed=failed), base_url="http://x")
    assert len(module[FAILED_SOP_SEQUENCE]["Value"]) == 2
    assert len(module[OTHER_FAILURES_SEQUENCE]["Value"]) == 1
