"""Identifiers of resources: the same answer has the same ones wherever and whenever it is written."""

import uuid

from node.domain.job import Job
from node.domain.uids import NAMESPACE


def resource_id(kind: str, *parts: str) -> str:
    """Return the id of the resource of type `kind` that always follows from `parts`."""
    return str(uuid.uuid5(NAMESPACE, "|".join(("fhir", kind, *parts))))


def answer_id(kind: str, job: Job, *parts: str) -> str:
    """Return the id of a resource that belongs to the answer of `job`: the same question has the same answer."""
    order = job.order
    return resource_id(kind, order.pipeline, order.model, order.model_version, order.content, *parts)
