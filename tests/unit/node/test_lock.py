"""One node to a data folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from node.errors import DataDirInUse
from node.lock import FolderLock

HOLD_AND_DIE = """
import os, sys
from pathlib import Path
from node.lock import FolderLock
FolderLock(Path(sys.argv[1])).hold()
os.kill(os.getpid(), 9)
"""


def test_a_held_folder_is_refused_until_it_is_given_back(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    first.hold()
    with pytest.raises(DataDirInUse, match=r"node\.data_dir"):
        second.hold()
    first.let_go()
    second.hold()
    second.let_go()


def test_a_killed_holder_holds_no_longer(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", HOLD_AND_DIE, str(tmp_path)], check=False)
    lock = FolderLock(tmp_path)
    lock.hold()
    lock.let_go()
