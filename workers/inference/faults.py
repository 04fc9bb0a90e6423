"""What the errors of torch and of the memory mean to a Job."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from node.errors import DeviceFailed, OutOfMemory

# What torch says in a RuntimeError that has no class of its own: its allocator on the CPU, and the libraries below it.
OUT_OF_MEMORY_WORDS = ("can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")
DEVICE_WORDS = ("CUDA error", "HIP error", "CUBLAS_STATUS", "CUDNN_STATUS", "cuDNN error", "CUDA driver")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory was short, on the device or on the CPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in OUT_OF_MEMORY_WORDS)


def is_device_fault(error: BaseException) -> bool:
    """Tell whether an error says that the device failed; from then on every call to it may fail (a sticky error)."""
    if isinstance(error, torch.AcceleratorError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in DEVICE_WORDS)


@contextmanager
def named_faults() -> Iterator[None]:
    """Raise what goes wrong in the block under a name of ours, where it has one.

    Raises
    ------
    OutOfMemory
        If memory was short.
    DeviceFailed
        If the device failed.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as exc:
        if is_out_of_memory(exc):
            raise OutOfMemory(
                "the Job needs more memory than this worker has; give it more, or run fewer processes beside it"
            ) from exc
        if is_device_fault(exc):
            raise DeviceFailed(
                "the device reported a fault that only a new process may get rid of; if it stays, see to its driver"
            ) from exc
        raise


def prove_device(device: torch.device) -> None:
    """Return after the device has computed something.

    Raises
    ------
    DeviceFailed
        If it cannot.
    """
    try:
        answer = float((torch.ones(2, device=device) * 2).sum())
    # Torch built without a device says so by assertion.
    except (AssertionError, RuntimeError) as exc:
        if is_out_of_memory(exc):
            # Others may have filled it for now; a Job tries by itself how much there is.
            return
        raise DeviceFailed(
            f"device {device} cannot be used ({type(exc).__name__}); give another --device, or see to its driver"
        ) from exc
    if answer != 4.0:
        raise DeviceFailed(f"device {device} reckons that two and two are {answer}; see to it")
