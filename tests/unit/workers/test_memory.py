"""Memory that was freed stays with the process until it is given back; each in a process of its own."""

import subprocess
import sys

import psutil
import pytest

MIB = 2**20
SCRIPT = """
import numpy, psutil
from workers.memory import give_memory_back, keep_freed_memory
me = psutil.Process()
{first}
before = me.memory_info().rss
array = numpy.ones(64 * 2**20, numpy.uint8)
del array
kept = me.memory_info().rss - before
give_memory_back()
print(kept, me.memory_info().rss - before)
"""


@pytest.mark.skipif(not psutil.LINUX, reason="mallopt is Linux's")
@pytest.mark.parametrize(("first", "is_kept"), [("keep_freed_memory()", True), ("", False)])
def test_what_is_freed_is_kept_until_it_is_given_back(first: str, is_kept: bool) -> None:
    ran = subprocess.run([sys.executable, "-c", SCRIPT.format(first=first)], capture_output=True, text=True, check=True)
    kept, left = map(int, ran.stdout.split())
    assert (kept > 48 * MIB) == is_kept
    assert left < 16 * MIB
