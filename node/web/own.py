"""What the file of one of our own Results says; of those the ledger keeps no attributes."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydicom.filereader import read_partial
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from node.domain.study import Attributes
from node.errors import FileUnreadable

# Behind it stand descriptions of thousands of Frames, and pixels.
LAST_GROUP = 0x0028


def read_attributes(path: Path, keywords: Iterable[str]) -> Attributes:
    """Return attributes of a Part 10 file that radnode wrote, as far as they are there.

    Raises
    ------
    FileUnreadable
        If it cannot be read.
    """

    def is_behind(tag: BaseTag, _vr: str | None, _length: int) -> bool:
        return tag.group > LAST_GROUP

    try:
        with path.open("rb") as file:
            ds = read_partial(file, stop_when=is_behind)
    except OSError as exc:
        raise FileUnreadable(f"{path.name} of the store cannot be read ({type(exc).__name__}); see its disk") from exc
    return {keyword: _plain(ds[keyword].value) for keyword in keywords if ds.get(keyword) not in (None, "")}


def _plain(value: Any) -> Any:
    if isinstance(value, MultiValue):
        return [_plain(one) for one in value]
    if isinstance(value, int):
        return int(value)
    return float(value) if isinstance(value, float) or hasattr(value, "as_tuple") else str(value)
