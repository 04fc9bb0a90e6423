"""The error tree: what each error carries, and that the drawing at its top is the tree."""

import re
from collections.abc import Iterator

import pytest

import node.errors
from node.errors import Broken, Misconfigured, NodeError, Rejected, Transient

# PS3.7 Annex C and PS3.4 B.2.3: failures of C-STORE are these, or lie in these ranges.
SINGLE_FAILURES = frozenset({0x0105, 0x0106, 0x0110, 0x0111, 0x0112, 0x0117, 0x0118, 0x0119, 0x0122, 0x0124, 0x0210})
SINGLE_FAILURES |= {0x0211, 0x0212, 0x0213}
# Of normalized services alone (PS3.7 annex C.5).
SINGLE_FAILURES |= {0x0120, 0x0121, 0x0123}
FAILURE_RANGES = (range(0xA700, 0xA800), range(0xA900, 0xAA00), range(0xC000, 0xD000))
CODE_LIMIT = 64
BRANCHES = (Transient, Rejected, Misconfigured, Broken)


def descendants(kind: type[NodeError]) -> Iterator[type[NodeError]]:
    for child in kind.__subclasses__():
        yield child
        yield from descendants(child)


# A test may make an error of its own; only ours are promised.
TREE = sorted(
    {kind for kind in descendants(NodeError) if kind.__module__ == node.errors.__name__}, key=lambda kind: kind.__name__
)


@pytest.fixture(params=TREE, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> type[NodeError]:
    found: type[NodeError] = request.param
    return found


def test_every_error_says_what_to_do_next() -> None:
    assert set(NodeError.__subclasses__()) == set(BRANCHES)


def test_an_error_has_its_own_code(kind: type[NodeError]) -> None:
    assert "code" in vars(kind), "the code is inherited"
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.code)
    assert len(kind.code) <= CODE_LIMIT


def test_a_code_is_the_name_in_kebab_case(kind: type[NodeError]) -> None:
    assert kind.code == re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower()


def test_codes_are_unique() -> None:
    codes = [NodeError.code] + [kind.code for kind in TREE]
    assert len(set(codes)) == len(codes)


def test_a_dimse_peer_hears_a_failure_that_c_store_defines(kind: type[NodeError]) -> None:
    status = kind.dimse_status
    assert status in SINGLE_FAILURES or any(status in span for span in FAILURE_RANGES), hex(status)


def test_an_http_peer_hears_an_error_status(kind: type[NodeError]) -> None:
    assert 400 <= kind.http_status <= 599


def test_what_may_succeed_later_asks_a_dimse_peer_to_come_again() -> None:
    retried = {kind for kind in TREE if kind.dimse_status in FAILURE_RANGES[0]}
    assert retried == {kind for kind in TREE if issubclass(kind, Transient)}


def test_every_error_is_explained(kind: type[NodeError]) -> None:
    assert (kind.__doc__ or "").strip().endswith(".")


def test_the_drawing_is_the_tree() -> None:
    drawn = re.findall(r"── (\w+)", node.errors.__doc__ or "")
    assert sorted(drawn) == [kind.__name__ for kind in TREE]


def test_the_drawing_shows_each_error_below_its_parent() -> None:
    parents: list[str] = ["NodeError"]
    for line in (node.errors.__doc__ or "").splitlines():
        found = re.match(r"([│├└─ ]+)(\w+)", line)
        if found is None or "──" not in found[1]:
            continue
        depth = len(found[1]) // 4
        del parents[depth:]
        kind = vars(node.errors)[found[2]]
        assert kind.__bases__[0].__name__ == parents[-1]
        parents.append(found[2])
