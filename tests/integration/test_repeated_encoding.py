"""The same question gives the same bytes in another process, under another hash seed, time zone and language."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENCODE_LIMIT_S = 120.0
PROGRAM = """
import hashlib, json, time
from node.domain.result import OptionalResult, SegmentationForm
from tests.analyses import ct_case, mr_case, organ_case, xray_case

digests = {"zone": time.tzname[0], "hash": hash("radnode")}
cases = {"ct": ct_case, "nothing": lambda: ct_case(with_nodules=False), "mr": mr_case, "x-ray": xray_case}
cases |= {"organ": organ_case, "no organ": lambda: organ_case(is_found=False)}
for name, make in cases.items():
    for form in SegmentationForm:
        for result in make().encode(*OptionalResult, segmentation=form):
            digests[f"{name} {form} {result.kind}"] = hashlib.sha256(result.content).hexdigest()
print(json.dumps(digests))
"""


def encode_elsewhere(**environment: str) -> Mapping[str, object]:
    """Return the digest of every Result that a fresh process makes."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=ENCODE_LIMIT_S,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    assert run.returncode == 0, run.stderr
    digests: dict[str, object] = json.loads(run.stdout)
    return digests


@pytest.mark.timeout(2 * ENCODE_LIMIT_S)
def test_two_processes_write_the_same_bytes() -> None:
    one = dict(encode_elsewhere(PYTHONHASHSEED="1", TZ="UTC", LC_ALL="C.UTF-8"))
    other = dict(encode_elsewhere(PYTHONHASHSEED="4021", TZ="Pacific/Chatham", LC_ALL="C"))
    surroundings = ("zone", "hash")
    assert all(one.pop(name) != other.pop(name) for name in surroundings)
    assert one == other
    assert {name.rsplit(" ", 1)[1] for name in one} >= {"SEG", "SR", "SC"}
