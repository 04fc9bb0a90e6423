"""The judge of the soak finds what it is there to find: a loss, a doubled answer, a Study without an end, a leak."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from itertools import islice
from pathlib import Path

import pytest

from node.domain.decision import Decision, Outcome
from node.domain.uids import StudyUID
from node.header.part10 import file_meta
from node.ledger.views import StudyStory
from tests import testimony
from tests.instances import CT_IMAGE_STORAGE, EXPLICIT, INSTANCE, NOON, ct_slice, encode
from tests.soak.census import Role
from tests.soak.deeds import End
from tests.soak.judgment import Arrived, Verdict, judge_answers, judge_ends, judge_footprint, judge_kept, judge_terminal
from tests.soak.report import list_wrongs
from tests.soak.run import read_faults
from tests.soak.sender import Plan
from tests.soak.studies import Kind, Maker
from tests.soak.watch import Life, Sample

PLAN = Plan(study_instance_uid="1.2", kind=Kind.CT, instances=frozenset({"1.2.1", "1.2.2"}), is_whole=True)
SEG = Arrived(
    study_instance_uid="1.2",
    sop_instance_uid="9.1",
    modality="SEG",
    digest="a",
    sources=frozenset(),
    segmentations=frozenset(),
    predecessors=frozenset(),
)
SR = replace(SEG, sop_instance_uid="9.2", modality="SR", sources=PLAN.instances, segmentations=frozenset({"9.1"}))
# On what had come of the Study by then.
EARLY = replace(SR, sop_instance_uid="9.3", sources=frozenset({"1.2.1"}), segmentations=frozenset())
LATER = replace(SR, predecessors=frozenset({"9.3"}))


def judged(*arrived: Arrived) -> Verdict:
    return judge_answers(arrived, {"1.2": PLAN})


def test_one_set_of_results_is_in_order() -> None:
    assert judged(SEG, SR).is_held


def test_a_report_on_a_part_that_the_later_one_names_is_in_order() -> None:
    assert judged(SEG, EARLY, LATER).is_held


def test_nothing_is_in_order_where_no_rule_asks() -> None:
    plan = replace(PLAN, kind=Kind.OTHER)
    assert judge_answers([], {"1.2": plan}).is_held
    assert not judge_answers([replace(SR, segmentations=frozenset())], {"1.2": plan}).is_held


@pytest.mark.parametrize(
    ("arrived", "wrong"),
    [
        ((), "0 reports stand"),
        ((SR,), "0 SEG, and reports that refer to 1"),
        ((SEG, replace(SEG, sop_instance_uid="9.9"), SR), "2 SEG, and reports that refer to 1"),
        ((SEG, SR, replace(SR, sop_instance_uid="9.9")), "2 reports on the same Instances"),
        ((SEG, SR, SR), "9.2 is in the PACS 2 times"),
        ((SEG, EARLY, SR), "2 reports stand"),
        ((EARLY,), "its report speaks of 1 of 2 Instances"),
        ((replace(SR, segmentations=frozenset()),), "its report has no SEG"),
        ((SEG, SR, replace(SEG, sop_instance_uid="9.9", modality="OT")), "nobody asked for: {'OT': 1}"),
        ((SEG, SR, replace(SEG, study_instance_uid="1.3")), "1.3 came from nowhere"),
    ],
)
def test_every_other_set_is_found(arrived: Sequence[Arrived], wrong: str) -> None:
    found = judged(*arrived)
    assert any(wrong in one for one in found.wrongs), found
    assert list_wrongs([found])[0].startswith("BROKEN exactly one set")


class Kept:
    """A data folder with one received Instance, and what its sender was told."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder
        data_set = encode(ct_slice())
        digest = sha256(data_set).hexdigest()
        self.file = folder / "store" / "instances" / "one.dcm"
        self.file.parent.mkdir(parents=True)
        self.file.write_bytes(
            file_meta(
                sop_class_uid=CT_IMAGE_STORAGE,
                sop_instance_uid=INSTANCE,
                transfer_syntax_uid=EXPLICIT,
                sending_aet="MODALITY",
            )
            + data_set
        )
        self.told = testimony.Told(sent={digest}, may_count={digest}, is_acknowledged=True)
        with closing(sqlite3.connect(folder / "ledger.sqlite")) as ledger:
            ledger.execute("CREATE TABLE instances (sop_instance_uid, path)")
        self.write_row()

    def write_row(self, uid: str = INSTANCE) -> None:
        with closing(sqlite3.connect(self.data_dir / "ledger.sqlite")) as ledger, ledger:
            ledger.execute("DELETE FROM instances")
            ledger.execute("INSERT INTO instances VALUES (?, 'instances/one.dcm')", (uid,))

    def judged(self) -> Verdict:
        return judge_kept(testimony.Testimony({INSTANCE: self.told}, kept=1, refused=[]), self.data_dir)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def test_what_was_acknowledged_and_is_there_is_in_order(kept: Kept) -> None:
    assert kept.judged().is_held


def test_an_acknowledged_instance_without_a_row_is_found(kept: Kept) -> None:
    kept.write_row("1.2.3.99")
    assert kept.judged().wrongs == (f"{INSTANCE} was acknowledged and has no row", "1.2.3.99 was never sent")


def test_an_acknowledged_instance_without_a_file_is_found(kept: Kept) -> None:
    kept.file.unlink()
    assert kept.judged().wrongs == (f"{INSTANCE} was acknowledged and has no file",)


def test_other_bytes_are_found(kept: Kept) -> None:
    kept.file.write_bytes(kept.file.read_bytes()[:-2])
    assert kept.judged().wrongs == (
        "instances/one.dcm holds other bytes than were sent",
        f"{INSTANCE} counts with another content than was acknowledged",
    )


STORY = StudyStory(
    study_instance_uid=StudyUID("1.2"),
    state="ROUTED",
    reason="quiet for 1 s",
    first_instance_at=NOON,
    series=(),
    decisions=(
        Decision(
            study_instance_uid=StudyUID("1.2"),
            rule="CT",
            outcome=Outcome.NO_MATCH,
            clause="",
            found="",
            reason="",
            inputs={},
            trace=(),
        ),
    ),
    jobs=(),
    results=(),
    deliveries=(),
    events=(),
)


def test_a_study_with_an_end_is_in_order() -> None:
    assert judge_terminal({"1.2": STORY}, {"1.2": PLAN}).is_held


@pytest.mark.parametrize(
    ("stories", "plan", "wrong"),
    [
        ({}, PLAN, "is not in the ledger"),
        ({"1.2": STORY}, replace(PLAN, is_whole=False), "was never acknowledged as a whole"),
        ({"1.2": replace(STORY, state="OPEN")}, PLAN, "has not come to an end: OPEN"),
        ({"1.2": replace(STORY, reason="")}, PLAN, "has no reason for its state ROUTED"),
        ({"1.2": replace(STORY, decisions=())}, PLAN, "has no reason for running nothing"),
    ],
)
def test_a_study_without_an_end_is_found(stories: dict[str, StudyStory], plan: Plan, wrong: str) -> None:
    assert wrong in judge_terminal(stories, {"1.2": plan}).wrongs[0]


def test_an_end_after_which_nobody_starts_the_node_is_found() -> None:
    full = "the disk filled to the last byte"
    passing, lasting, odd = End(exit_code=1, beside=full), End(exit_code=2, beside=full), End(exit_code=1, beside="")
    assert judge_ends([passing]).is_held
    assert len(judge_ends([passing, lasting, odd]).wrongs) == 2


def life(*, bytes_a_second: int = 0, descriptors_a_second: float = 0.0) -> Life:
    """Return what is seen of a node for 200 s."""
    samples = [
        Sample(at_s=at, pss_bytes=10**8 + at * bytes_a_second, descriptors=int(at * descriptors_a_second), threads=9)
        for at in range(0, 200, 2)
    ]
    return Life(role=Role.NODE, samples=samples)


def test_a_flat_process_is_in_order() -> None:
    assert judge_footprint([life()], 50.0, 200.0).is_held


@pytest.mark.parametrize(
    ("grown", "wrong"),
    [
        (life(bytes_a_second=10**6), "node: memory grew by 70"),
        (life(descriptors_a_second=1.0), "descriptors more"),
        (Life(role=Role.NODE), "no process lived long enough"),
    ],
)
def test_a_process_that_grows_is_found(grown: Life, wrong: str) -> None:
    assert wrong in judge_footprint([grown], 50.0, 200.0).wrongs[0]


def test_slope_is_that_of_the_grown_process() -> None:
    assert life(bytes_a_second=1000).slope(after_s=20.0) == 1000.0


def test_tracebacks_are_counted_by_their_last_line(tmp_path: Path) -> None:
    log = tmp_path / "node.log"
    log.write_text(
        '{"event": "instance stored"}\n' + '{"event": "broken job", "traceback": ["File x", "KeyError"]}\n' * 2
    )
    assert read_faults(log) == {"broken job: KeyError": 2}


def test_the_same_seed_draws_the_same_studies() -> None:
    first, second = (islice(Maker("7/0").studies(), 16) for _ in range(2))
    studies = list(first)
    assert studies == list(second)
    assert {study.kind for study in studies} == set(Kind)
    for study in studies:
        sent = [one for wave in study.waves for line in wave.associations for one in line]
        assert set(sent) == set(study.instances)
