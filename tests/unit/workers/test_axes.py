"""Axes the other way round: the same values, whatever their type, in memory as their new order wants."""

from typing import Any

import numpy as np
import pytest

from workers.axes import reversed_axes


@pytest.mark.parametrize("kind", [np.float32, np.uint8, np.int64, np.bool_])
def test_every_value_is_where_its_reversed_index_says(kind: Any) -> None:
    source = np.arange(2 * 3 * 5).reshape(2, 3, 5).astype(kind)
    found = reversed_axes(source)
    assert found.flags.c_contiguous
    assert found.dtype == kind
    assert (found == source.transpose(2, 1, 0)).all()


def test_what_is_not_contiguous_is_read_as_it_is_indexed() -> None:
    source = np.arange(60, dtype=np.float32).reshape(3, 4, 5)[:, ::-1, 1:]
    assert (reversed_axes(source) == source.transpose(2, 1, 0)).all()
