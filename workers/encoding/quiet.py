"""Silence around pydicom and highdicom: their warnings quote values of the patient's header."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LIBRARIES = ("pydicom", "highdicom")


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Hold back what pydicom and highdicom log and warn below an error, while the context lasts.

    Odd values in source headers are copied as they are, or emptied; neither is news for the log, and both libraries
    would write the value itself into it.
    """
    loggers = [logging.getLogger(name) for name in LIBRARIES]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
