"""The log: JSON lines, a whitelist of fields, and no text of anybody's data."""

import io
import json
import logging
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from node.logs import configure_logging, log_context

CANARY = "Canary^Patient"


class Log:
    """What was written, line by line."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def log() -> Log:
    """A configured log."""
    found = Log()
    configure_logging("INFO", found.stream)
    return found


def test_a_line_is_json_with_time_level_logger_and_event(log: Log) -> None:
    logging.getLogger("node.test").info("instance stored", extra={"bytes": 7, "series_uid": "1.2"})
    (line,) = log.lines()
    assert line.pop("at").endswith("+00:00")
    assert line == {"level": "INFO", "logger": "node.test", "event": "instance stored", "bytes": 7, "series_uid": "1.2"}


def test_fields_outside_the_list_are_dropped_and_counted(log: Log) -> None:
    logging.getLogger("node.test").info("x", extra={"patient_name": CANARY, "PatientID": CANARY, "count": 1})
    assert log.lines()[0]["dropped_fields"] == 2
    assert CANARY not in log.text


def test_context_follows_the_work_and_ends_with_it(log: Log) -> None:
    logger = logging.getLogger("workers.test")
    with log_context(job_id="j1", patient_name=CANARY), log_context(pipeline="p"):
        logger.info("inside")
    logger.info("outside")
    inside, outside = log.lines()
    assert (inside["job_id"], inside["pipeline"], inside["dropped_fields"]) == ("j1", "p", 1)
    assert "job_id" not in outside
    assert CANARY not in log.text


def test_a_field_of_the_line_goes_before_the_context(log: Log) -> None:
    with log_context(job_id="outer"):
        logging.getLogger("node.test").info("x", extra={"job_id": "inner"})
    assert log.lines()[0]["job_id"] == "inner"


def test_an_exception_shows_where_and_what_kind_but_never_its_text(log: Log) -> None:
    try:
        try:
            dict[str, str]()[CANARY]
        except KeyError as exc:
            raise ValueError(CANARY) from exc
    except ValueError:
        logging.getLogger("node.test").exception("station broken")
    (line,) = log.lines()
    assert line["traceback"][-1] == "ValueError"
    assert "test_logs.py" in line["traceback"][0]
    assert CANARY not in log.text


@pytest.mark.parametrize("library", ["pynetdicom", "highdicom", "celery", "anything.else"])
def test_a_library_says_that_it_spoke_and_not_what(log: Log, library: str) -> None:
    logging.getLogger(library).error("Invalid value %s", CANARY)
    (line,) = log.lines()
    assert (line["logger"], line["event"]) == (library, "library message")
    assert CANARY not in log.text


@pytest.mark.parametrize("library", ["pynetdicom.events", "highdicom.seg", "sqlalchemy.engine.Engine"])
def test_chatty_libraries_are_silent_below_an_error(log: Log, library: str) -> None:
    logging.getLogger(library).warning(CANARY)
    assert log.text == ""


def test_a_warning_says_of_what_kind_and_where_and_does_not_quote_a_data_set(
    log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    """pydicom warns of odd values, and quotes them."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        configure_logging("INFO", log.stream)
        warnings.warn(f"Invalid value for VR PN: {CANARY!r}", stacklevel=1)
    (line,) = log.lines()
    assert (line["event"], line["error_type"]) == ("library warned", "UserWarning")
    assert Path(line["place"].rpartition(":")[0]) == Path(__file__)
    assert CANARY not in log.text + capsys.readouterr().err


def test_a_thread_that_dies_leaves_a_line_without_values(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ValueError(CANARY)

    thread = threading.Thread(target=fail, name="reactor")
    # pytest has a hook of its own; ours is asked here as the interpreter would.
    try:
        fail()
    except ValueError:
        threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), thread)))
    (line,) = log.lines()
    assert (line["event"], line["traceback"][-1]) == ("thread died", "ValueError")
    assert CANARY not in log.text + capsys.readouterr().err


def test_the_level_is_kept(log: Log) -> None:
    logging.getLogger("node.test").debug("detail")
    assert log.text == ""
