"""Which precision `auto` takes, on processors that are not at hand."""

from __future__ import annotations

import pytest
import torch

from avsal.errors import UsageError
from avsal.prediction import device
from avsal.prediction.model import load_model

CPU = torch.device("cpu")


@pytest.fixture
def processor(monkeypatch):
    """`processor(vendor, bf16, amx)` makes torch and the system tell of another processor."""

    def make(vendor: str, bf16: bool, amx: bool = False) -> None:
        monkeypatch.setattr(device, "_cpu_vendor", lambda: vendor)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16, raising=False)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)

    return make


@pytest.mark.parametrize(
    ("vendor", "bf16", "amx", "expected", "why"),
    [
        ("AuthenticAMD", True, False, torch.bfloat16, "AMD"),  # Zen 4 and later
        ("AuthenticAMD", False, False, torch.float32, "no bfloat16"),
        ("GenuineIntel", True, True, torch.bfloat16, "AMX"),  # Sapphire Rapids and later
        ("GenuineIntel", True, False, torch.float32, "slower"),  # Cooper Lake; AMX switched off
        ("GenuineIntel", False, False, torch.float32, "no bfloat16"),
        ("AMD64 Family 25 Model 97 Stepping 2, AuthenticAMD", True, False, torch.bfloat16, "AMD"),
        ("", True, False, torch.float32, "slower"),
    ],
)
def test_precision_by_what_is_known_to_be_fast(processor, vendor, bf16, amx, expected, why):
    processor(vendor, bf16, amx)
    dtype, reason = device.automatic_precision(CPU)
    assert dtype == expected
    assert why in reason
    assert device.choose_precision("auto", CPU) == expected
    assert device.choose_precision("bf16", CPU) == torch.bfloat16  # a wish is always met


def test_a_precision_that_gains_nothing_is_told(processor):
    for vendor, bf16, says in (
        ("AuthenticAMD", True, None),
        ("GenuineIntel", True, "without AMX is slower"),
        ("GenuineIntel", False, "emulates bf16"),
    ):
        processor(vendor, bf16)
        notes = device.slow_precision(torch.bfloat16, CPU)
        assert [says in note for note in notes] == ([True] if says else [])


def test_fp16_on_a_cpu_is_refused_before_it_takes_minutes(tiny):
    with pytest.raises(UsageError, match="give bf16, fp32 or auto"):
        device.choose_precision("fp16", CPU)
    with pytest.raises(UsageError, match="give bf16, fp32 or auto"):
        load_model(tiny, "untrained", "cpu", "fp16")


@pytest.mark.parametrize(("capability", "expected"), [((6, 1), "fp32"), ((7, 0), "fp16")])
def test_precision_on_cuda(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    dtype, _why = device.automatic_precision(torch.device("cuda"))
    assert device.precision_name(dtype) == expected


def test_info_says_what_and_why(processor, avsal_command):
    processor("GenuineIntel", bf16=True)
    code, out, _err = avsal_command("info")
    assert code == 0
    (line,) = [line for line in out.splitlines() if line.strip().startswith("precision")]
    assert "fp32 (AVX-512 BF16 without AMX is slower)" in line
