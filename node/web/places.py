"""Where objects have their URLs, and which ones a URL names (PS3.18 10.4.1)."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from node.domain.uids import check_uid
from node.errors import FileUnreadable, RequestMalformed
from node.ledger.holdings import Holding, HoldingLedger
from node.web.pixels import PixelPool
from node.web.rights import Right, Visitor, authorize
from node.web.services import Services

logger = logging.getLogger(__name__)

Reader = Annotated[Visitor, Depends(authorize(Right.READ))]

DICOM_WEB = "/dicom-web"
STUDY = "/studies/{study}"
SERIES = STUDY + "/series/{series}"
INSTANCE = SERIES + "/instances/{instance}"
MAX_NUMBER_DIGITS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """What routes that retrieve need."""

    services: Services
    ledger: HoldingLedger

    @property
    def pixels(self) -> PixelPool:
        """Who reads what is inside of files."""
        return self.services.pixels

    def find(self, study: str, series: str = "", instance: str = "") -> tuple[Holding, ...]:
        """Return what a URL names.

        Raises
        ------
        BadIdentifier
            If one of its UIDs is none.
        NotFound
            If nothing of it is held.
        """
        check_uid(study, keyword="StudyInstanceUID")
        for uid, keyword in ((series, "SeriesInstanceUID"), (instance, "SOPInstanceUID")):
            if uid:
                check_uid(uid, keyword=keyword)
        return self.ledger.holdings(study, series, instance)

    def one(self, study: str, series: str, instance: str) -> Holding:
        """Return the one Instance that a URL names; raises as `find` does."""
        return self.find(study, series, instance)[0]

    def path(self, holding: Holding) -> Path:
        """Return where the file of an Instance lies."""
        return self.services.store.path(holding.path)

    def whole(self, holding: Holding) -> Path:
        """Return where the file of an Instance lies, as long as it was when it was stored.

        Raises
        ------
        FileUnreadable
            If it is absent, or of another length.
        """
        path = self.path(holding)
        try:
            size_bytes = path.stat().st_size
        except OSError as exc:
            why = f"cannot be read ({type(exc).__name__})"
            raise FileUnreadable(f"{path.name} of the store {why}; see its disk, and restore it from a copy") from exc
        if size_bytes != holding.size_bytes:
            why = f"has {size_bytes} bytes instead of {holding.size_bytes}"
            raise FileUnreadable(f"{path.name} of the store {why}; restore it from a copy")
        return path

    def leave_out(self, holding: Holding, code: str) -> None:
        """Tell the operator that one Instance of several cannot be had: it must not hide the others."""
        named = {
            "study_uid": holding.study_instance_uid,
            "series_uid": holding.series_instance_uid,
            "instance_uid": holding.sop_instance_uid,
        }
        logger.error("instance not read", extra={"reason_code": code, **named})


def open_shelf(services: Services) -> Shelf:
    """Return what routes need to find Instances."""
    return Shelf(services=services, ledger=HoldingLedger(services.engine))


def base_url(request: Request) -> str:
    """Return the URL of the DICOMweb services, as the client knows it."""
    return f"{str(request.base_url).rstrip('/')}{DICOM_WEB}"


def url_of(request: Request, holding: Holding) -> str:
    """Return the URL of an Instance."""
    return (
        f"{base_url(request)}/studies/{holding.study_instance_uid}/series/{holding.series_instance_uid}"
        f"/instances/{holding.sop_instance_uid}"
    )


def read_frame_numbers(text: str) -> Sequence[int]:
    """Return the numbers of a frame list, from 1.

    Raises
    ------
    RequestMalformed
        If it is none.
    """
    numbers = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) <= MAX_NUMBER_DIGITS for part in numbers):
        raise RequestMalformed("a frame list is numbers from 1, with commas between (1,2,3)")
    if any(int(part) < 1 for part in numbers):
        raise RequestMalformed("the first Frame has number 1")
    return [int(part) for part in numbers]
