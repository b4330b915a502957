"""How much memory a generation took."""

import resource
import sys

import torch

MIB = 2**20
MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024
"""The unit of ru_maxrss: bytes on macOS, KiB on Linux."""


def forget_peak(device: torch.device) -> None:
    """Start counting anew, where the device can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_mb(device: torch.device) -> float:
    """MiB: the GPU's since forget_peak(); without a GPU the process' since its start."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device) / MIB)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_BYTES / MIB
