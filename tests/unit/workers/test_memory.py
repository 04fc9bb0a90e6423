"""Memory that was freed stays with the process until it is given back; each in a process of its own."""

import subprocess
import sys

import psutil
import pytest

MIB = 2**20
SCRIPT = """
import numpy, psutil
from time import sleep
from workers.memory import SpareMemory, give_memory_back, keep_freed_memory
me = psutil.Process()
{first}
before = me.memory_info().rss
array = numpy.ones(64 * 2**20, numpy.uint8)
del array
kept = me.memory_info().rss - before
{then}
print(kept, me.memory_info().rss - before)
"""


@pytest.mark.skipif(not psutil.LINUX, reason="mallopt is Linux's")
@pytest.mark.parametrize(("first", "is_kept"), [("keep_freed_memory()", True), ("", False)])
def test_what_is_freed_is_kept_until_it_is_given_back(first: str, is_kept: bool) -> None:
    kept, left = _run(first, "give_memory_back()")
    assert (kept > 48 * MIB) == is_kept
    assert left < 16 * MIB


@pytest.mark.skipif(not psutil.LINUX, reason="mallopt is Linux's")
def test_memory_that_nobody_uses_any_more_is_given_back_after_a_while() -> None:
    waits = """
spare = SpareMemory(idle_s=0.01)
with spare.in_use():
    pass
while me.memory_info().rss - before > 48 * 2**20:
    sleep(0.01)
"""
    _, left = _run("keep_freed_memory()", waits)
    assert left < 48 * MIB


@pytest.mark.skipif(not psutil.LINUX, reason="mallopt is Linux's")
def test_memory_is_kept_for_the_next_use() -> None:
    uses_again = """
spare = SpareMemory(idle_s=0.5)
with spare.in_use():
    pass
with spare.in_use():
    sleep(0.6)
    assert me.memory_info().rss - before > 48 * 2**20
"""
    _run("keep_freed_memory()", uses_again)


def _run(first: str, then: str) -> tuple[int, int]:
    """Return how much more a process held after it freed 64 MiB, and in the end, bytes."""
    script = SCRIPT.format(first=first, then=then)
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    kept, left = map(int, ran.stdout.split())
    return kept, left
