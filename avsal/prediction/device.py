"""Where the network runs, in which precision, and how many windows go through at once."""

from __future__ import annotations

import platform
import re
from functools import cache
from pathlib import Path

import torch

from avsal.errors import UsageError
from avsal.prediction.settings import Precision, check_device, check_word

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

# Peak activation memory of one 224x384 window of the MViTv2-S network in float32, measured on CPU.
WINDOW_BYTES = 1_500_000_000
MAX_BATCH = 16  # more windows at once gain nothing measurable and only delay the first map


def choose_device(name: str) -> torch.device:
    """Turn "auto", "cpu", "cuda", "cuda:1", ... into a device.

    Raises:
        UsageError: the device does not exist on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_device(name)
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if not torch.cuda.is_available() or (device.index or 0) >= count:
            found = f"{count} CUDA devices" if count else "no CUDA device"
            raise UsageError(f"device {name}: torch finds {found} here; use --device auto or cpu")
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Turn "auto", "fp32", "fp16" or "bf16" into the compute dtype.

    auto takes what `automatic_precision` does.

    Raises:
        UsageError: unknown precision, or fp16 on a CPU, where bf16 is never slower.
    """
    check_word("precision", name, Precision)
    if name == Precision.FP16 and device.type == "cpu":
        raise UsageError(
            "precision fp16: a CPU takes up to hundreds of times as long for it as for fp32; "
            "give bf16, fp32 or auto"
        )
    if name != "auto":
        return _DTYPES[name]
    return automatic_precision(device)[0]


def automatic_precision(device: torch.device) -> tuple[torch.dtype, str]:
    """The compute dtype that is fastest on a device, and why, in a few words.

    On a CPU it is decided by what is known, not by a measurement: the maps of a machine must not
    depend on how busy it was.
    """
    if device.type == "cuda":
        # Pascal and older (below 7.0) run half precision slower than single.
        if torch.cuda.get_device_capability(device) >= (7, 0):
            return torch.float16, "fast units from compute capability 7.0 on"
        return torch.float32, "fp16 is slow below compute capability 7.0"
    if _supports("_is_amx_tile_supported"):
        return torch.bfloat16, "AMX"
    if not cpu_has_bfloat16():
        return torch.float32, "no bfloat16 instructions"
    if "AMD" in _cpu_vendor():  # Zen 4 and later: 2.2 times as fast as fp32
        return torch.bfloat16, "AVX-512 BF16 of an AMD processor"
    # Intel without AMX: the full network takes 1.43 times as long as in fp32.
    return torch.float32, "AVX-512 BF16 without AMX is slower"


@cache
def _cpu_vendor() -> str:
    """What the processor calls its maker: AuthenticAMD, GenuineIntel, ..."""
    try:
        found = re.search(r"vendor_id\s*:\s*(\S+)", Path("/proc/cpuinfo").read_text("utf-8"))
    except OSError:
        found = None
    return found[1] if found else platform.processor()


def _supports(probe: str) -> bool:
    return bool(getattr(torch.cpu, probe, bool)())


def slow_precision(dtype: torch.dtype, device: torch.device) -> tuple[str, ...]:
    """A warning where the wanted precision gains nothing, as one line or none."""
    if device.type == "cuda" or dtype == torch.float32:
        return ()
    name = precision_name(dtype)
    if not cpu_has_bfloat16():
        return (f"this processor emulates {name}, which can be hundreds of times slower than fp32",)
    fastest, why = automatic_precision(device)
    if fastest != torch.float32:
        return ()
    return (f"{name} is no faster than fp32 on this processor: {why}",)


def cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware (AVX-512 BF16 or AMX)."""
    return _supports("_is_avx512_bf16_supported") or _supports("_is_amx_tile_supported")


def precision_name(dtype: torch.dtype) -> str:
    """The command-line word for a dtype."""
    return next(name for name, known in _DTYPES.items() if known == dtype)


def device_label(device: torch.device) -> str:
    """What a person calls the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} threads"


def automatic_batch(device: torch.device, pixels: int, dtype: torch.dtype, on_cpu: int) -> int:
    """Windows that fit into the device's free memory at once.

    Args:
        pixels: height times width of the network's input.
        on_cpu: the answer for a CPU, where large networks gain nothing from more than 1.
    """
    if device.type != "cuda":
        return on_cpu
    free, _total = torch.cuda.mem_get_info(device)
    per_window = WINDOW_BYTES * pixels / (224 * 384) * torch.finfo(dtype).bits / 32
    return max(1, min(MAX_BATCH, int(0.7 * free / per_window)))
