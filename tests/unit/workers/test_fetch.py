"""The Instances of a Job come back from the store as they were ordered, or not at all."""

from dataclasses import replace
from pathlib import Path

import pytest

from node.domain.job import Job, digest_versions
from node.domain.study import InstanceFacts
from node.errors import InputMissing, PixelsUndecodable, StudyChanged
from node.store.files import FileStore, Reserve
from tests.ledgers import STUDY, Books, make_facts
from tests.objects import write_object
from workers.decoding.pool import DecoderPool
from workers.fetch import fetch_inputs


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "store", Reserve(reserve_bytes=0, reserve_percent=0.0))


@pytest.fixture
def job(books: Books, store: FileStore, tmp_path: Path) -> Job:
    store.put(make_facts().path, write_object(tmp_path / "made", "one").read_bytes())
    return books.add_job()


def known(books: Books, job: Job) -> dict[str, tuple[InstanceFacts, ...]]:
    return dict(books.jobs.input_instances(job))


def test_every_instance_of_every_role_is_read(books: Books, store: FileStore, job: Job) -> None:
    inputs = fetch_inputs(job, known(books, job), store, DecoderPool())
    assert set(inputs) == {"ct"}
    assert [ds.Modality for ds in inputs["ct"]] == ["CT"]


def test_a_file_of_another_size_keeps_its_pixels_in_the_store(books: Books, store: FileStore, job: Job) -> None:
    """Else a Series that is too large would be in memory before it is refused."""
    assert store.path(make_facts().path).stat().st_size != make_facts().size_bytes
    inputs = fetch_inputs(job, known(books, job), store, DecoderPool())
    assert "PixelData" not in inputs["ct"][0]


def test_a_series_that_grew_since_the_order_is_not_read(books: Books, store: FileStore, job: Job) -> None:
    books.instances.record_instance(make_facts(2))
    with pytest.raises(StudyChanged, match=job.job_id):
        fetch_inputs(job, known(books, job), store, DecoderPool())


def test_a_question_about_versions_is_not_answered_of_others(books: Books, store: FileStore, job: Job) -> None:
    versions = {
        role: [(one.sop_instance_uid, one.digest) for one in found] for role, found in known(books, job).items()
    }
    asked = replace(job, order=replace(job.order, content=digest_versions(versions)))
    assert set(fetch_inputs(asked, known(books, job), store, DecoderPool())) == {"ct"}
    books.instances.record_instance(make_facts(digest="later"))
    assert set(fetch_inputs(job, known(books, job), store, DecoderPool())) == {"ct"}
    with pytest.raises(StudyChanged, match=job.job_id):
        fetch_inputs(asked, known(books, job), store, DecoderPool())


def test_a_series_that_vanished_is_not_read(store: FileStore, job: Job) -> None:
    with pytest.raises(StudyChanged):
        fetch_inputs(job, {"ct": ()}, store, DecoderPool())


def test_swapped_roles_are_another_content(books: Books, store: FileStore, job: Job) -> None:
    with pytest.raises(StudyChanged):
        fetch_inputs(replace(job), {"t1": known(books, job)["ct"]}, store, DecoderPool())


def test_a_file_that_is_gone_is_named(books: Books, store: FileStore, job: Job) -> None:
    store.delete(make_facts().path)
    with pytest.raises(InputMissing, match=rf"{STUDY}\.1\.1 is gone"):
        fetch_inputs(job, known(books, job), store, DecoderPool())


@pytest.mark.parametrize("content", [b"", b"rotten" * 100])
def test_a_file_that_rotted_is_refused(books: Books, store: FileStore, job: Job, content: bytes) -> None:
    store.put(make_facts().path, content)
    with pytest.raises(PixelsUndecodable, match="cannot be read back"):
        fetch_inputs(job, known(books, job), store, DecoderPool())
