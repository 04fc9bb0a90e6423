"""The Instances of a Job, read back from the store."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from node.domain.job import Job, digest_inputs
from node.domain.study import InstanceFacts
from node.errors import InputMissing, PixelsUndecodable, StudyChanged
from node.store.port import Store


def fetch_inputs(
    job: Job, instances: Mapping[str, Sequence[InstanceFacts]], store: Store
) -> dict[str, tuple[Dataset, ...]]:
    """Read every Instance of `job`, and prove that it is the content the Job was ordered on.

    Raises
    ------
    StudyChanged
        If Instances came or went since the Job was ordered; routing will supersede it.
    InputMissing
        If a file is gone from the store.
    PixelsUndecodable
        If a file is no longer the Part 10 file that was stored.
    """
    content = digest_inputs({role: [i.sop_instance_uid for i in found] for role, found in instances.items()})
    if content != job.order.content:
        raise StudyChanged(
            f"job {job.job_id}: the Series no longer hold what the Job was ordered on; it waits to be superseded"
        )
    return {role: tuple(_read(store.path(i.path), i) for i in found) for role, found in instances.items()}


def _read(path: Path, instance: InstanceFacts) -> Dataset:
    try:
        return dcmread(path)
    except FileNotFoundError as exc:
        raise InputMissing(f"instance {instance.sop_instance_uid} is gone from the store; send it again") from exc
    except (InvalidDicomError, ValueError, EOFError, NotImplementedError) as exc:
        raise PixelsUndecodable(
            f"instance {instance.sop_instance_uid} cannot be read back from the store; send it again"
        ) from exc
