"""What warm networks take of a device, as it is found there."""

import gc

import torch

from workers.inference.layout import networks_of


class DeviceScale:
    """Weighs Pipelines on one device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def weigh(self, pipeline: object) -> int:
        """Return the bytes of all parameters and buffers of a Pipeline's networks; shared ones count once."""
        storages = {
            storage.data_ptr(): storage.nbytes()
            for network in networks_of(pipeline).values()
            for tensor in (*network.parameters(), *network.buffers())
            for storage in [tensor.untyped_storage()]
        }
        return sum(storages.values())

    def read_peak(self) -> int:
        """Return the most bytes that this process held on the device since it was asked last; 0 where nobody counts."""
        if self._device.type != "cuda":
            return 0
        peak = torch.cuda.max_memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        return peak

    def let_go(self) -> None:
        """Give the device what evicted Pipelines left behind."""
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
