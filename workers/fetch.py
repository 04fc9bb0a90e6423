"""The Instances of a Job, as they lie in the store."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydicom import Dataset

from node.domain.job import Job, is_content
from node.domain.study import InstanceFacts
from node.errors import InputMissing, StudyChanged
from node.store.port import Store
from workers.decoding.pool import DecoderPool
from workers.instances import StoredInstance, StoredSeries


def fetch_inputs(
    job: Job, instances: Mapping[str, Sequence[InstanceFacts]], store: Store, pool: DecoderPool
) -> dict[str, Sequence[Dataset]]:
    """Return every Instance of `job`, after proof that it is the content the Job was ordered on.

    Headers are parsed and pixels read when somebody asks for them. Where a file is not of the size that the ledger
    knows, the ledger is not believed: its header is parsed at once, and its pixels are read by that.

    Parameters
    ----------
    pool
        Decodes what is compressed.

    Raises
    ------
    StudyChanged
        If Instances came or went since the Job was ordered, or came again where it is on their versions; routing will
        supersede it.
    InputMissing
        If a file is gone from the store.
    PixelsUndecodable
        If a file is no longer the Part 10 file that was stored.
    """
    versions = {role: [(i.sop_instance_uid, i.digest) for i in found] for role, found in instances.items()}
    if not is_content(job.order.content, versions):
        raise StudyChanged(
            f"job {job.job_id}: the Series no longer hold what the Job was ordered on; it waits to be superseded"
        )
    return {role: _open_series(found, store, pool) for role, found in instances.items()}


def _open_series(found: Sequence[InstanceFacts], store: Store, pool: DecoderPool) -> Sequence[Dataset]:
    return StoredSeries([_open_instance(facts, store.path(facts.path), pool) for facts in found], pool)


def _open_instance(facts: InstanceFacts, path: Path, pool: DecoderPool) -> StoredInstance:
    if _measure(path, facts) == facts.size_bytes:
        return StoredInstance(facts, path, pool)
    odd = StoredInstance(facts, path, pool, is_as_told=False)
    # A file that rotted is refused before anything is computed.
    _ = odd.header
    return odd


def _measure(path: Path, facts: InstanceFacts) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError as exc:
        raise InputMissing(f"instance {facts.sop_instance_uid} is gone from the store; send it again") from exc
