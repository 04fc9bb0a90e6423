"""Logging: JSON lines on standard error, a whitelist of fields, and context that follows the work."""

import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import TextIO

# Whatever is not in this list never reaches a log: no name, no identifier of a patient, no value of a rule.
ALLOWED_FIELDS = frozenset({
    "adopted", "alarm", "association", "attempts", "bytes", "called_aet", "calling_aet", "count", "destination",
    "error_type", "exit_code", "failures", "host", "instance_uid", "job_id", "loss", "method", "not_before", "outcome",
    "owner", "peer", "pid", "pipeline", "place", "port", "reason_code", "refused", "refused_count", "removed",
    "retried", "route", "seconds", "sent", "series_uid", "station", "status", "step", "stored_count", "study_uid",
    "subject",
})  # fmt: skip
# What every LogRecord carries by itself.
STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# These two write data set values at INFO or DEBUG.
CHATTY_LIBRARIES = (
    "pynetdicom", "highdicom", "pydicom", "dicomweb_client", "celery", "kombu", "amqp", "alembic", "sqlalchemy",
    "urllib3",
)  # fmt: skip

_context: ContextVar[dict[str, object]] = ContextVar("radnode_log_context")


class JsonFormatter(logging.Formatter):
    """One JSON object a line; fields that are not allowed are dropped and counted in ``dropped_fields``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for `record`."""
        extra = {key: value for key, value in vars(record).items() if key not in STANDARD_FIELDS}
        told = {**_context.get({}), **extra}
        fields = {key: value for key, value in told.items() if key in ALLOWED_FIELDS}
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage() if record.name.split(".")[0] in {"node", "workers"} else "library message",
            **fields,
        }
        if len(fields) < len(told):
            line["dropped_fields"] = len(told) - len(fields)
        if record.exc_info:
            line["traceback"] = _trace_without_values(*record.exc_info)
        return json.dumps(line, default=str)


@contextmanager
def log_context(**fields: object) -> Iterator[None]:
    """Bind `fields` to every line that is written inside the block."""
    token = _context.set({**_context.get({}), **fields})
    try:
        yield
    finally:
        _context.reset(token)


def configure_logging(level: str, stream: TextIO | None = None) -> None:
    """Send the log of this process to `stream` (standard error unless given) as JSON lines.

    Warnings of libraries and the ends of threads go the same way: both would quote data sets on standard error.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for library in CHATTY_LIBRARIES:
        logging.getLogger(library).setLevel(logging.ERROR)
    # What it cannot decode it logs with a traceback, and raises as well; the refusal says it in words.
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    warnings.showwarning = _log_warning
    threading.excepthook = _log_dead_thread


def _log_warning(
    message: Warning | str,  # noqa: ARG001 such is the hook of Python; its text may quote a data set
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001 as above
    line: str | None = None,  # noqa: ARG001 as above
) -> None:
    facts = {"error_type": category.__name__, "place": f"{filename}:{lineno}"}
    logging.getLogger(__name__).warning("library warned", extra=facts)


def _log_dead_thread(ended: threading.ExceptHookArgs) -> None:
    error = ended.exc_value
    if error is not None:
        trace = (ended.exc_type, error, ended.exc_traceback)
        logging.getLogger(__name__).error("thread died", exc_info=trace)


def _trace_without_values(
    kind: type[BaseException] | None, _error: BaseException | None, trace: TracebackType | None
) -> list[str]:
    # The text of a foreign exception may quote a data set; file, line and type are enough to find the fault.
    frames = []
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"{code.co_filename}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return [*frames, "no exception" if kind is None else kind.__name__]
