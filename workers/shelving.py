"""Encoded Results are put into the store, ready for the ledger."""

import hashlib

from node.domain.job import Job
from node.domain.result import Result
from node.store.paths import result_path
from node.store.port import Store
from workers.encoding.encoder import EncodedResult


def shelve_result(store: Store, job: Job, encoded: EncodedResult) -> Result:
    """Return the Result after its bytes are durable; its path carries the Job's fence.

    Raises
    ------
    StoreFull
        If the store does not take it.
    """
    uids = (encoded.study_instance_uid, encoded.series_instance_uid, encoded.sop_instance_uid)
    path = result_path(*uids, fence=job.fence)
    store.put(path, encoded.content)
    return Result(
        job_id=job.job_id,
        kind=encoded.kind,
        study_instance_uid=encoded.study_instance_uid,
        series_instance_uid=encoded.series_instance_uid,
        sop_instance_uid=encoded.sop_instance_uid,
        sop_class_uid=encoded.sop_class_uid,
        transfer_syntax_uid=encoded.transfer_syntax_uid,
        path=path,
        size_bytes=len(encoded.content),
        sha256=hashlib.sha256(encoded.content).hexdigest(),
        is_substitute=encoded.is_substitute,
    )
