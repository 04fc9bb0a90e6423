"""STOW-RS: Instances come as Part 10 files, or as metadata and bulk data, and are stored as they come (PS3.18 10.5)."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Request, Response

from node.domain.uids import check_uid
from node.errors import MediaTypeNotSupported, NodeError, RequestMalformed
from node.store.port import Store
from node.web.answer import may_succeed_later, response_module, status_of
from node.web.body import Body
from node.web.metadata import PiecesTaker
from node.web.multipart import MultipartReader
from node.web.native import dataset_response
from node.web.negotiation import (
    DICOM,
    DICOM_JSON,
    DICOM_XML,
    MULTIPART_RELATED,
    MediaType,
    Offer,
    accepted_by,
    choose,
    parse_media_type,
)
from node.web.places import DICOM_WEB, base_url
from node.web.problems import RETRY_AFTER_S, problem_of
from node.web.rights import Right, authorize
from node.web.services import Services
from node.web.submission import FileTaker, Origin, Passed, Submission

KINDS = (DICOM, DICOM_JSON, DICOM_XML)
ANSWERS = (Offer(name=DICOM_JSON), Offer(name=DICOM_XML), Offer(name="application/json"))
# As many requests are written and flushed at a time.
MAX_WRITERS = 8
# Threads that wait for the disk.
CLOSERS = 8
# As many requests are ended at a time. None of these threads is one of those that readers share.
MAX_ENDERS = 8
# How long the answer waits for the rows of what is stored, so that it can be found at once. Durable it is by then.
COMMIT_S = 5.0
PLAIN_ENCODINGS = frozenset({"", "binary", "8bit", "7bit"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """Threads that all requests share.

    Attributes
    ----------
    limiter
        Of those that write what comes.
    closers
        Those that wait for the disk.
    enders
        Of those that end requests.
    """

    limiter: CapacityLimiter
    closers: ThreadPoolExecutor
    enders: CapacityLimiter


class PartTaker(Protocol):
    """Who takes one part."""

    def write(self, content: memoryview) -> None:
        """Take the next bytes."""

    def end(self) -> None:
        """Take note that it came whole."""

    def discard(self) -> None:
        """Forget what came; nothing happens after `end`."""


class BodyTaker(Protocol):
    """Who takes a whole body."""

    def feed(self, content: bytes | memoryview) -> None:
        """Take the next bytes."""

    def finish(self) -> None:
        """Store what waits; the body is over."""

    def discard(self) -> None:
        """Forget what is not stored."""


class WholeFile:
    """A body that is one Part 10 file."""

    def __init__(self, submission: Submission) -> None:
        self._taker = FileTaker(submission)

    def feed(self, content: bytes | memoryview) -> None:
        """Take the next bytes."""
        self._taker.write(memoryview(content))

    def finish(self) -> None:
        """Store it."""
        self._taker.end()

    def discard(self) -> None:
        """Forget it, if it is not stored."""
        self._taker.discard()


class Parts:
    """A body of many parts; each goes to whoever understands it.

    Parameters
    ----------
    kind
        Media type of the parts as the request's own header says it.
    boundary
        Between them.
    """

    def __init__(self, submission: Submission, store: Store, *, kind: str, boundary: str) -> None:
        self._submission = submission
        self._kind = kind
        self._pieces = None if kind == DICOM else PiecesTaker(submission, store, kind)
        self._part: PartTaker | None = None
        self._reader = MultipartReader(boundary, self)

    def feed(self, content: bytes | memoryview) -> None:
        """Take the next bytes of the body."""
        self._reader.feed(content)

    def finish(self) -> None:
        """Store what waits for its bulk data; the body is over."""
        self._reader.finish()
        if self._pieces is not None:
            self._pieces.finish()

    def discard(self) -> None:
        """Forget what is not stored."""
        for taker in (self._part, self._pieces):
            if taker is not None:
                taker.discard()

    def begin(self, headers: Mapping[str, str]) -> None:
        """Begin a part."""
        media_type = parse_media_type(headers.get("content-type", self._kind))
        encoding = headers.get("content-transfer-encoding", "").lower()
        if encoding not in PLAIN_ENCODINGS:
            cause = MediaTypeNotSupported("a part has a Content-Transfer-Encoding; send it as binary")
            self._part = Passed(self._submission, cause)
        elif self._pieces is not None:
            self._part = self._pieces.begin(media_type, headers)
        elif media_type.name == DICOM:
            self._part = FileTaker(self._submission)
        else:
            cause = MediaTypeNotSupported(
                f"a part is {media_type.name} where {DICOM} was announced; correct the client"
            )
            self._part = Passed(self._submission, cause)

    def write(self, content: memoryview) -> None:
        """Take the next bytes of the part."""
        if self._part is not None:
            self._part.write(content)

    def end(self) -> None:
        """End the part."""
        if self._part is not None:
            self._part.end()


def router(services: Services) -> APIRouter:
    """Return ``POST /dicom-web/studies`` and ``POST /dicom-web/studies/{study}``."""
    routes = APIRouter(prefix=DICOM_WEB, dependencies=[Depends(authorize(Right.STORE))])
    crew = Crew(
        limiter=CapacityLimiter(MAX_WRITERS),
        closers=ThreadPoolExecutor(CLOSERS, "stow-closer"),
        enders=CapacityLimiter(MAX_ENDERS),
    )

    @routes.post("/studies")
    async def store(request: Request) -> Response:
        return await _serve(services, request, crew)

    @routes.post("/studies/{study}")
    async def store_in_study(request: Request, study: str) -> Response:
        return await _serve(services, request, crew, study_instance_uid=study)

    return routes


async def _serve(services: Services, request: Request, crew: Crew, study_instance_uid: str = "") -> Response:
    body = Body(request, silence_s=services.settings.node.dimse_timeout_s, limiter=crew.limiter)
    try:
        accepted = choose(accepted_by(request), ANSWERS)
        content_type = _content_type_of(request)
        submission = await _open(services, request, crew, study_instance_uid)
        await _take_in(body, submission, _taker_for(content_type, submission, services.store), crew.enders)
        response = await run_sync(_respond, services, submission, accepted, base_url(request), limiter=crew.enders)
    except NodeError as exc:
        response = problem_of(exc)
    await body.drain()
    return response


async def _open(services: Services, request: Request, crew: Crew, study_instance_uid: str) -> Submission:
    if study_instance_uid:
        check_uid(study_instance_uid, keyword="StudyInstanceUID")
    length = int(request.headers.get("content-length", "0"))
    await run_sync(services.store.check_space, length, limiter=crew.limiter)
    origin = Origin(
        association_id=services.name_association(),
        peer=request.client.host if request.client else "",
        study_instance_uid=study_instance_uid,
    )
    return Submission(services.intake, origin, crew.closers)


def _respond(services: Services, submission: Submission, accepted: Offer, url: str) -> Response:
    if submission.stored:
        services.wait_committed(COMMIT_S)
    return dataset_response(
        response_module(submission, base_url=url),
        media_type=accepted.name,
        status=status_of(submission),
        headers={"Retry-After": str(RETRY_AFTER_S)} if may_succeed_later(submission) else {},
    )


async def _take_in(body: Body, submission: Submission, taker: BodyTaker, enders: CapacityLimiter) -> None:
    """Return when the body is over, or cannot be read on and something of it is stored.

    Raises
    ------
    NodeError
        If it cannot be read on, and nothing of it is stored.
    """
    try:
        await body.pour(taker.feed)
        await run_sync(_finish, taker, submission, limiter=enders)
    except NodeError as exc:
        await run_sync(submission.settle, limiter=enders)
        if not submission.stored:
            raise
        # What is stored is told, whatever the rest is.
        await run_sync(submission.refuse, submission.origin.arrival(), exc, limiter=enders)
    finally:
        await run_sync(_end, taker, submission, limiter=enders)


def _finish(taker: BodyTaker, submission: Submission) -> None:
    taker.finish()
    submission.settle()


def _end(taker: BodyTaker, submission: Submission) -> None:
    taker.discard()
    submission.end()


def _taker_for(content_type: MediaType, submission: Submission, store: Store) -> BodyTaker:
    if content_type.name == DICOM:
        return WholeFile(submission)
    kind = content_type.parameters.get("type", DICOM).lower()
    if content_type.name != MULTIPART_RELATED or kind not in KINDS:
        raise MediaTypeNotSupported(
            f"the node stores {DICOM}, and {MULTIPART_RELATED} with type one of {', '.join(KINDS)}; correct the client"
        )
    boundary = content_type.parameters.get("boundary")
    if boundary is None:
        raise RequestMalformed("Content-Type names no boundary; correct the client")
    return Parts(submission, store, kind=kind, boundary=boundary)


def _content_type_of(request: Request) -> MediaType:
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise MediaTypeNotSupported("Content-Encoding is not read; send the body as it is")
    if "content-type" not in request.headers:
        raise MediaTypeNotSupported(f"the request has no Content-Type; send {MULTIPART_RELATED} of {DICOM}")
    return parse_media_type(request.headers["content-type"])
