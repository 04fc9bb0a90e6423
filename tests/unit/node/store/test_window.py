"""A window onto a file is cut exactly like its bytes."""

from os import urandom
from pathlib import Path

import pytest

from node.store.window import WINDOW_BYTES, FileWindow

SIZE = 3 * WINDOW_BYTES + 17


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        (0, 12),
        (WINDOW_BYTES - 6, WINDOW_BYTES + 6),
        (SIZE - 4, SIZE + 8),
        (SIZE, SIZE + 12),
        (SIZE + 5, SIZE + 9),
        (10, 2 * WINDOW_BYTES + 30),
        (7, 7),
        (None, 3),
        (2 * WINDOW_BYTES, None),
    ],
)
def test_every_slice_is_that_of_the_bytes(tmp_path: Path, start: int | None, stop: int | None) -> None:
    content = urandom(SIZE)
    (tmp_path / "file").write_bytes(content)
    with (tmp_path / "file").open("rb") as file:
        window = FileWindow(file.fileno(), SIZE)
        assert len(window) == SIZE
        for part in (slice(start, stop), slice(5, 9), slice(start, stop), slice(0, 4)):
            assert window[part] == content[part]
