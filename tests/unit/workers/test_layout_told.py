"""The Layout that a model was asked in is known of each Job, and what it changes belongs to the UIDs of its Results."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from node.layouts import PLAIN, Calibration, Chosen, Layout, LayoutBook, Memory, Precision
from node.ledger.cards import job_card, read_card
from node.models import SHIPPED_MODELS, read_model
from node.settings.loading import load_settings
from tests.analyses import make_provenance, make_radiograph
from tests.ledgers import Books, at, make_outcome, make_result
from workers.app import open_device, open_shelf
from workers.inference.device import find_grounds
from workers.inference.layout import networks_of
from workers.post import make_post
from workers.runner import WarmPipeline

LAST = Layout(memory=Memory.CHANNELS_LAST)
HALF = Layout(precision=Precision.BFLOAT16)
WORDS = "densenet channels-last float32"


def warm_by(layout: Layout, folder: Path) -> WarmPipeline:
    """Return the Pipeline of chest radiographs as a worker has it after a calibration that chose so."""
    shipped = load_settings(None, {})
    settings = shipped.model_copy(update={"node": shipped.node.model_copy(update={"data_dir": folder})})
    card, post = read_model(SHIPPED_MODELS / "cxr-pneumonia"), make_post("cpu")
    chosen = Calibration(
        model=card.name,
        version=card.version,
        grounds=find_grounds(card, open_device(post)),
        networks={"densenet": Chosen(layout=layout, trials=()), "of another version": Chosen(layout=PLAIN, trials=())},
        samples=4,
        at=datetime(2026, 1, 2, tzinfo=UTC),
    )
    LayoutBook(settings.layouts_dir).keep(chosen)
    return open_shelf(settings, post)("chest_xray")


@pytest.mark.parametrize(
    ("layout", "words", "has_note"),
    [(PLAIN, "", False), (LAST, WORDS, False), (HALF, "densenet contiguous bfloat16", True)],
    ids=str,
)
def test_a_pipeline_is_loaded_as_it_was_calibrated(layout: Layout, words: str, has_note: bool, tmp_path: Path) -> None:
    warm = warm_by(layout, tmp_path)
    assert warm.layout == words
    assert any("bfloat16" in note for note in warm.notes) is has_note
    is_laid_out = "forward" in vars(networks_of(warm.pipeline)["densenet"])
    assert is_laid_out is (layout != PLAIN)


def test_plain_answers_keep_their_uids_and_others_have_their_own() -> None:
    plain = make_provenance("chest_xray", {"image": [make_radiograph()]}, series_offset=3)
    assert replace(plain, layout="").uid("SR") == plain.uid("SR")
    assert replace(plain, layout=WORDS).uid("SR") != plain.uid("SR")


def test_job_and_card_say_which_layout_answered(books: Books) -> None:
    job = books.claim(books.add_job())
    outcome = replace(make_outcome(make_result(job)), layout=WORDS)
    card = job_card(job, outcome, now=at(20))
    books.jobs.finish_job(job, outcome, now=at(20))
    told = [event.text for event in books.view.job_events(books.find(job)) if event.kind == "job-completed"]
    assert told == [f"findings: {len(outcome.findings)}, Results: 1; networks: {WORDS}"]
    assert json.loads(card)["layout"] == WORDS
    assert read_card(card).job["job_id"] == job.job_id
    assert "layout" not in json.loads(job_card(job, replace(outcome, layout=""), now=at(20)))
