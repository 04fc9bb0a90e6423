"""A process that is told to warm up loads and tries what it can; what it cannot fails only its own Jobs."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import pytest
import torch
from pydicom import Dataset

from node.bell import CHILD_START_S
from node.errors import ModelInvalid, ModelOutputInvalid
from node.models import SHIPPED_MODELS, ModelCard, read_model
from tests.analyses import make_radiograph, xray_case
from workers.app import load_pipeline
from workers.pipelines.base import Analysis
from workers.runner import WarmPipeline
from workers.samples import SMALL, draw_inputs
from workers.trials import Trials
from workers.warming import WARM_BUDGET_S, Tries, answer_inputs, warm_up

FILM = read_model(SHIPPED_MODELS / "cxr-pneumonia")


class Counting:
    """A Pipeline that answers as in the tests of encoding, and counts."""

    def __init__(self, *, fails: bool = False) -> None:
        self.asked = 0
        self._fails = fails

    def read(self, inputs: Mapping[str, Sequence[Dataset]]) -> Mapping[str, Sequence[Dataset]]:
        return inputs

    def analyze(self, prepared: Mapping[str, Sequence[Dataset]]) -> Analysis:
        self.asked += 1
        if self._fails:
            raise ModelOutputInvalid("NaN")
        return xray_case().analysis


def reading(modality: str) -> ModelCard:
    """Return a model that takes this Modality alone."""
    return replace(FILM, modalities=dict.fromkeys(FILM.required_roles, (modality,)))


def tries(
    *,
    notes: Trials | None = None,
    alarm: Callable[[float], object] = lambda _seconds: None,
    watch: Callable[[], float] = time.monotonic,
) -> Tries:
    """Return tries of a process that is alone with its device."""
    return Tries(notes=notes or Trials(), node_aet="NODE", turns=lambda _name: nullcontext(), alarm=alarm, watch=watch)


def test_what_is_broken_is_not_in_the_way_of_the_others(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    card, loaded = reading("MG"), []

    def shelf(name: str) -> WarmPipeline:
        loaded.append(name)
        if name == "broken":
            raise ModelInvalid("absent")
        if name == "full":
            raise MemoryError
        if name == "faulty":
            raise KeyError("channel")
        return WarmPipeline(pipeline=Counting(), card=card)

    names = ["broken", "full", "faulty", "fine"]
    warm_up(shelf, names, tries())
    assert loaded == names
    told = [(vars(one)["pipeline"], one.getMessage(), vars(one).get("reason_code")) for one in caplog.records]
    assert told == [
        ("broken", "pipeline not warm", "model-invalid"),
        ("full", "pipeline not warm", "out-of-memory"),
        ("faulty", "pipeline not warm", "broken"),
        ("fine", "pipeline warm", None),
    ]


def test_what_would_take_too_long_is_left_for_its_first_job(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    card, loaded, now = reading("MG"), [], [1000.0]

    def shelf(name: str) -> WarmPipeline:
        loaded.append(name)
        now[0] += WARM_BUDGET_S / 2
        return WarmPipeline(pipeline=Counting(), card=card)

    names = ["one", "two", "three", "four"]
    warm_up(shelf, names, tries(watch=lambda: now[0]))
    assert loaded == ["one", "two"]
    left = "pipeline left for its first job"
    assert [vars(one)["pipeline"] for one in caplog.records if one.getMessage() == left] == ["three", "four"]


def test_what_ended_a_process_is_left_by_those_after_it(caplog: pytest.LogCaptureFixture) -> None:
    notes, card = Trials(), reading("MG")
    loaded: list[str] = []

    def shelf(name: str) -> WarmPipeline:
        loaded.append(name)
        if name == "stuck":
            os._exit(1)
        return WarmPipeline(pipeline=Counting(), card=card)

    names = ["one", "stuck", "two"]
    child = os.fork()
    if child == 0:
        warm_up(shelf, names, tries(notes=notes))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    warm_up(shelf, names, tries(notes=notes))
    assert loaded == ["one", "two"]
    left = "pipeline left for its first job"
    assert [vars(one)["pipeline"] for one in caplog.records if one.getMessage() == left] == ["stuck"]


def test_a_sibling_that_still_tries_is_in_nobodys_way() -> None:
    notes = Trials()
    with notes.trying("slow"):
        assert not notes.has_ended_one("slow")


def test_each_trial_has_a_limit_and_none_is_left_behind() -> None:
    alarms: list[float] = []
    shelf = WarmPipeline(pipeline=Counting(), card=reading("MG"))
    warm_up(lambda _name: shelf, ["one", "two"], tries(alarm=alarms.append))
    assert alarms == [WARM_BUDGET_S, 0.0] * 2


def test_warming_ends_long_before_a_process_counts_as_stuck() -> None:
    assert WARM_BUDGET_S < CHILD_START_S / 2


def test_a_pipeline_is_asked_and_its_answer_is_proven() -> None:
    pipeline = Counting()
    case = xray_case()
    answer_inputs(WarmPipeline(pipeline=pipeline, card=FILM), case.inputs, name="chest_xray", node_aet="NODE")
    assert pipeline.asked == 1


def test_an_answer_that_is_none_is_told() -> None:
    failing = WarmPipeline(pipeline=Counting(fails=True), card=FILM)
    with pytest.raises(ModelOutputInvalid):
        answer_inputs(failing, {"image": [make_radiograph()]}, name="chest_xray", node_aet="NODE")


def test_nothing_is_drawn_of_other_modalities() -> None:
    assert draw_inputs(reading("MG"), seed=1, healthy=True, size=SMALL) is None
    assert draw_inputs(reading(""), seed=1, healthy=True, size=SMALL) is None


@pytest.mark.thorough
@pytest.mark.parametrize("model", ["ct-nodules", "mr-tumour", "cxr-pneumonia"])
def test_every_reference_model_reads_what_is_drawn_for_it(model: str) -> None:
    card = read_model(SHIPPED_MODELS / model)
    warm = load_pipeline(card, torch.device("cpu"))
    draw = partial(draw_inputs, card, seed=3, size=SMALL)
    sick, healthy = draw(healthy=False), draw(healthy=True)
    assert sick is not None
    assert healthy is not None
    assert set(sick) == {*card.required_roles, *card.optional_roles}
    assert warm.pipeline.analyze(warm.pipeline.read(sick)).findings
    answer_inputs(warm, healthy, name=card.pipeline, node_aet="NODE")
