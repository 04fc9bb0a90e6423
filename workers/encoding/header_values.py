"""Single values of a header, whatever it holds: text, identifiers, numbers."""

import numpy as np
from pydicom import Dataset
from pydicom.datadict import dictionary_VR

from workers.encoding import source_elements
from workers.encoding.source_elements import TEXT_VRS


def read_text(ds: Dataset, keyword: str) -> str:
    """Return the value of an element as text without padding, read as Results hold it; empty where it is absent."""
    if dictionary_VR(keyword) in TEXT_VRS:
        return source_elements.read_text(ds, keyword)
    return read_plain(ds, keyword)


def read_plain(ds: Dataset, keyword: str) -> str:
    """Return the value of an element of digits and Latin letters, such as a UID or a code; empty where it is absent."""
    value = ds.get(keyword)
    return "" if value is None else str(value).strip()


def read_numbers(ds: Dataset, keyword: str, length: int) -> tuple[float, ...]:
    """Return `length` finite numbers of an element; empty where it holds anything else."""
    try:
        value = ds.get(keyword)
        numbers = tuple(float(one) for one in (value if length > 1 else [value]))
    except (TypeError, ValueError):
        return ()
    return numbers if len(numbers) == length and np.isfinite(numbers).all() else ()
