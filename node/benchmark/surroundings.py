"""Where something was measured: what a reader must know before comparing it with his own figures."""

import os
import subprocess
from importlib.metadata import version
from pathlib import Path
from re import search

from node.benchmark.receivers import find_dcmtk, find_orthanc
from node.errors import NotFound

MOUNTS = Path("/proc/self/mounts")


def describe_surroundings(folder: Path) -> str:
    """Return cores, file system of `folder`, and the versions of the peers that are installed, in one line."""
    programs = {"dcmtk": lambda: find_dcmtk("storescp"), "Orthanc": find_orthanc}
    words = [f"{os.cpu_count()} cores", file_system(folder)]
    for name, find in programs.items():
        try:
            words.append(f"{name} {_program_version(find())}")
        except NotFound:
            continue  # it cannot have been measured
    return ", ".join((*words, f"pynetdicom {version('pynetdicom')}"))


def describe_load() -> str:
    """Return how many processes wanted a core in the last 15 minutes, ours among them, in words."""
    return f"{os.getloadavg()[2]:.0f} processes wanted a core on average of 15 minutes"


def file_system(folder: Path) -> str:
    """Return the type of the file system on which `folder` lies, such as ``ext4``."""
    mounts = [line.split()[1:3] for line in MOUNTS.read_text(encoding="utf-8").splitlines()]
    here = folder.resolve()
    above = [(len(place), kind) for place, kind in mounts if here.is_relative_to(place)]
    return max(above)[1]


def _program_version(program: str) -> str:
    said = subprocess.run((program, "--version"), capture_output=True, text=True, check=False).stdout
    found = search(r"\d+\.\d+\.\d+", said)
    return found[0] if found else "of unknown version"
