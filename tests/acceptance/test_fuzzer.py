"""A short run of the fuzzer against a node (`make fuzz` is the long one), and that it would find what is wrong."""

from pathlib import Path

import pytest

from node.header.part10 import file_meta
from tests.fuzz.__main__ import report, run
from tests.fuzz.campaign import Finding, Outcome, judge
from tests.fuzz.cases import Kind, Maker
from tests.fuzz.templates import load_templates
from tests.instances import CT_IMAGE_STORAGE, EXPLICIT, INSTANCE, SERIES, STUDY, ct_slice, encode

SEED = 4
CASES = 1000
UIDS = (STUDY, SERIES, INSTANCE)


def test_node_survives_a_short_run(tmp_path: Path) -> None:
    outcome = run(tmp_path, seed=SEED, first=0, cases=CASES, connections=8)
    assert not outcome.findings, report(outcome, SEED)
    assert outcome.cases == CASES
    # Half of the damages are harmless, and what they leave is kept.
    assert outcome.kept > CASES / 10
    assert {name.split()[0] for name in outcome.answers} == {kind.name for kind in Kind}


def test_a_case_follows_from_seed_and_number() -> None:
    templates = load_templates()
    cases = [Maker(SEED, templates).case(number) for number in range(200)]
    assert cases == [Maker(SEED, templates).case(number) for number in range(200)]
    assert cases != [Maker(SEED + 1, templates).case(number) for number in range(200)]
    assert {case.kind for case in cases} == set(Kind)


def kept(folder: Path, data_set: bytes) -> Path:
    """Return a file as the store keeps it."""
    meta = file_meta(sop_class_uid=CT_IMAGE_STORAGE, sop_instance_uid=INSTANCE, transfer_syntax_uid=EXPLICIT)
    path = folder / "a.dcm"
    path.write_bytes(meta + data_set)
    return path


@pytest.mark.parametrize(
    ("data_set", "sent", "uids", "wrong"),
    [
        (encode(ct_slice()), encode(ct_slice()), UIDS, ""),
        (encode(ct_slice()), encode(ct_slice(level=8)), UIDS, "holds other bytes"),
        (b"\x08\0\x05\0CS\x06\0A\0B  ", b"\x08\0\x05\0CS\x06\0A\0B  ", UIDS, "cannot read"),
        (encode(ct_slice()), encode(ct_slice()), (STUDY, SERIES, "1.2"), "pydicom reads"),
    ],
)
def test_what_is_kept_otherwise_is_found(
    tmp_path: Path, data_set: bytes, sent: bytes, uids: tuple[str, str, str], wrong: str
) -> None:
    found = judge(kept(tmp_path, data_set), {sent: 1}, uids)
    assert wrong in found
    assert bool(found) == bool(wrong)


def test_report_says_how_to_repeat_what_was_found() -> None:
    outcome = Outcome(cases=10, seconds=2.0, findings=[Finding(first=7, count=1, text="it hangs")])
    told = report(outcome, SEED)
    assert "FOUND it hangs\n  repeat: python -m tests.fuzz --seed 4 --first 7 --cases 1\n" in told
    assert told.endswith("10 cases in 2 s (5/s), 0 acknowledged and read again, 1 findings; seed 4")
