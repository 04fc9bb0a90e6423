"""What a device is called, and what it can do fast."""

import hashlib
import json
import platform
from collections.abc import Mapping
from pathlib import Path

import torch

from node.layouts import Grounds
from node.models import ModelCard
from node.version import product_version

CPU_FACTS = Path("/proc/cpuinfo")
# Of the instructions of a CPU, those that the kernels of torch are chosen by.
KERNEL_FLAGS = ("avx", "amx", "fma", "asimd", "sve", "bf16")
# Without one of these bfloat16 is emulated.
BFLOAT16_FLAGS = frozenset({"amx_bf16", "avx512_bf16", "bf16"})


def find_grounds(card: ModelCard, device: torch.device) -> Grounds:
    """Return what the Layouts of a model hold for on this device."""
    numbers = json.dumps(card.numbers, sort_keys=True, default=str)
    return Grounds(
        weights_sha256=card.weights_sha256,
        device=name_device(device),
        torch=torch.__version__,
        numbers_sha256=hashlib.sha256(numbers.encode()).hexdigest(),
        product=product_version(),
    )


def name_device(device: torch.device, *, facts: Path = CPU_FACTS) -> str:
    """Return the name of a device: of a CPU with those of its instructions that torch chooses kernels by.

    Parameters
    ----------
    facts
        What Linux tells of the CPU.
    """
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{properties.name} ({properties.major}.{properties.minor})"
    told = _read_facts(facts)
    flags = sorted(one for one in _flags(told) if any(part in one for part in KERNEL_FLAGS))
    return f"{told.get('model name') or platform.machine()} ({' '.join(flags)})"


def computes_bfloat16(device: torch.device, *, facts: Path = CPU_FACTS) -> bool:
    """Tell whether a device has instructions for bfloat16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return not BFLOAT16_FLAGS.isdisjoint(_flags(_read_facts(facts)))


def _flags(told: Mapping[str, str]) -> list[str]:
    return (told.get("flags") or told.get("Features") or "").split()


def _read_facts(path: Path) -> Mapping[str, str]:
    """Return what is told of the first core."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _, value in pairs}
