"""`radnode demo` as a newcomer runs it: three Studies, true findings, files and pictures, nothing left behind."""

from collections import Counter
from pathlib import Path

import psutil
from PIL import Image
from pydicom import dcmread

from tests.node_process import run_radnode


def test_demo_finds_the_truth_delivers_everything_and_leaves_nothing_running(tmp_path: Path) -> None:
    out = tmp_path / "pacs"
    ended = run_radnode("demo", "--out", out, limit_s=600.0)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("right  truth:") == 3
    kinds = Counter(dcmread(path, stop_before_pixels=True).Modality for path in out.rglob("*.dcm"))
    assert kinds["SEG"] == 2
    assert kinds["SR"] == 3
    for name in ("ct-chest", "mr-brain", "chest-xray"):
        with Image.open(out / f"{name}.png") as picture:
            assert picture.width >= 800
    leftovers = [p.info["cmdline"] for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(p.info["cmdline"])]
    assert leftovers == []
