"""Everything that has to hold, and how fast it is, on a CUDA machine: one command, one table.

    python benchmarks/gpu.py [--device cuda] [--reduced]

Run it in a checkout. It asks no network and needs PyTorch, NumPy and OpenCV; where PyAV is
installed, whole videos are predicted too. It takes less than ten minutes. `--reduced` is what the
continuous integration runs on a CPU: the same code with few frames and small networks.

The published loop is the same network driven the published way: image encoder on all 16 frames of
every window, training heads on, one window per frame, float32.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import parity_check  # noqa: E402 - the tests' goldens and deterministic weights

from avsal import models  # noqa: E402
from avsal.errors import UsageError  # noqa: E402
from avsal.media.frames import VideoFrame  # noqa: E402
from avsal.models.folding import prepare_for_inference  # noqa: E402
from avsal.models.network import SaliencyNetwork  # noqa: E402
from avsal.models.variants import VARIANTS  # noqa: E402
from avsal.prediction.device import cpu_has_bfloat16, precision_name  # noqa: E402
from avsal.prediction.predictor import Predictor  # noqa: E402
from avsal.prediction.settings import MapSize, PredictSettings  # noqa: E402
from avsal.prediction.torch_engine import TorchEngine  # noqa: E402

FULL, SMALL = "mvitv2s-224x384", "small-224x384"
WAIT = "called a synchronizing CUDA operation"  # PyTorch's warning
CLIP = ROOT / "examples" / "talk_and_bounce.mp4"


def row(what: str, value: str, remark: str = "") -> None:
    print(f"{what:<58} {value:>16}  {remark}".rstrip(), flush=True)


def shipped_state() -> dict[str, torch.Tensor]:
    """The default's weights, read without the safetensors package."""
    data = (ROOT / "weights" / "avsal-small.safetensors").read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    dtypes = {"F16": torch.float16, "F32": torch.float32, "I64": torch.int64}
    state = {}
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__":
            begin, end = (start + offset for offset in entry["data_offsets"])
            tensor = torch.frombuffer(bytearray(data[begin:end]), dtype=dtypes[entry["dtype"]])
            state[name] = tensor.view(entry["shape"])
    return state


def network(variant: str, heads: bool = False) -> SaliencyNetwork:
    if variant != SMALL or heads:
        return parity_check.filled(variant, heads)
    made = models.build(variant).eval()
    made.load_state_dict(shipped_state())
    return made


def predictor(variant: str, device: torch.device, precision: torch.dtype) -> Predictor:
    engine = TorchEngine(network(variant), device, precision)
    return Predictor(VARIANTS[variant], engine, ("benchmark", ""))


def frames(count: int, height: int = 224, width: int = 384) -> Iterator[VideoFrame]:
    """A bright square that moves over noise, of the network's size: resizing would need Pillow."""
    noise = np.random.default_rng(0).integers(0, 160, (height, width, 3), dtype=np.uint8)
    for index in range(count):
        image = noise.copy()
        left = 8 * index % (width - 60)
        image[100:160, left : left + 60] = 255
        yield VideoFrame(index, Fraction(index, 25), Fraction(1, 25), image)


def settled(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    settled(device)
    began = time.perf_counter()
    work()
    settled(device)
    return time.perf_counter() - began


def predict_all(
    made: Predictor, source: Path | list[VideoFrame], settings: PredictSettings
) -> None:
    maps = (
        made.predict(source, settings)
        if isinstance(source, Path)
        else made.predict_frames(source, None, settings)
    )
    for _ in maps:
        pass


def check_goldens(device: torch.device, variants: list[str]) -> bool:
    """Log-densities of the published variants against the goldens, float32 without TF32."""
    fine = True
    for name in variants:
        made = prepare_for_inference(parity_check.filled(name)).to(device)
        clip, spectrogram = (tensor.to(device) for tensor in parity_check.inputs(name))
        with torch.inference_mode():
            found = made(clip, spectrogram).cpu().numpy()
        error = float(np.abs(found - parity_check.golden(name)["log_density"]).max())
        limit = parity_check.tolerance(name)["log_density_max_abs"]
        fine &= error <= limit
        verdict = "within" if error <= limit else "FAILED:"
        row(f"golden {name}, largest error", f"{error:.1e}", f"{verdict} {limit:.1e}")
    return fine


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def check_half(
    variant: str, device: torch.device, precisions: list[torch.dtype], count: int
) -> bool:
    """Every map in half precision against float32's."""
    settings = PredictSettings(stride=1, size=MapSize("model"))

    def maps(precision: torch.dtype) -> list[np.ndarray]:
        made = predictor(variant, device, precision)
        return [f.density for f in made.predict_frames(frames(count), None, settings)]

    exact, fine = maps(torch.float32), True
    for precision in precisions:
        least = min(map(correlation, exact, maps(precision)))
        fine &= least >= 0.999
        verdict = "at least .999" if least >= 0.999 else "FAILED: below .999"
        row(f"{variant} {precision_name(precision)} CC with fp32", f"{least:.5f}", verdict)
    return fine


def published(variant: str, device: torch.device, runs: int) -> float:
    """Frames per second of the published loop."""
    made = network(variant, heads=True).to(device)
    clip, spectrogram = (
        torch.rand(shape, device=device) for shape in ((1, 3, 16, 224, 384), (1, 1, 257, 111))
    )
    if not made.uses_pixels:
        clip = clip[:, :, 3::4]
    with torch.inference_mode():
        made.forward_with_alignment(clip, spectrogram)
        window = partial(made.forward_with_alignment, clip, spectrogram)
        spent = [seconds(window, device) for _ in range(runs)]
    rate = 1 / statistics.median(spent)
    row(f"{variant} published loop, fp32", f"{rate:.2f} maps/s")
    return rate


def measure_speed(
    variant: str,
    device: torch.device,
    precisions: list[torch.dtype],
    batches: list[int | None],
    count: int,
    base: float,
) -> None:
    """Maps per second from frames in memory to maps in memory, at every frame."""
    for precision in precisions:
        made = predictor(variant, device, precision)
        for batch in batches:
            what = f"{variant} {precision_name(precision)} batch {batch or 'auto'}"
            settings = PredictSettings(stride=1, batch=batch, size=MapSize.parse("640x360"))
            if device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(device)
            try:
                list(made.predict_frames(frames(16 + (batch or 0)), None, settings))  # warm-up
                given = list(frames(count))
                spent = seconds(partial(predict_all, made, given, settings), device)
            except UsageError as error:
                row(what, "-", str(error))
                continue
            remark = f"{count / spent / base:.2f} x the published loop"
            if device.type == "cuda":
                remark += f", {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB at most"
            row(what, f"{count / spent:.2f} maps/s", remark)


def count_waits(variant: str, device: torch.device, precision: torch.dtype) -> None:
    """How often a CUDA call stops the host, in a run that is under way: it should be never.

    Waiting for finished maps does not count; nor is everything seen that could stop the host.
    """
    made, count = predictor(variant, device, precision), 64
    settings = PredictSettings(stride=1, size=MapSize.parse("640x360"))
    list(made.predict_frames(frames(32), None, settings))  # warm-up
    given = list(frames(count))
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        predict_all(made, given, settings)
        torch.cuda.set_sync_debug_mode("default")
    waits = [f"{w.filename}:{w.lineno}" for w in found if WAIT in str(w.message)]
    row(
        f"{variant} {precision_name(precision)} host stopped",
        f"{len(waits)} x",
        waits[0] if waits else "",
    )


def measure_videos(device: torch.device, variants: list[str], precision: torch.dtype) -> None:
    """Decode, network and post-processing together, and each share alone."""
    if importlib.util.find_spec("av") is None:
        row("whole videos", "-", "PyAV is not installed")
        return
    from avsal.media import VideoReader

    def decode() -> int:
        with VideoReader(CLIP) as video:
            return sum(1 for _ in video)

    count = decode()
    row("decode alone", f"{count / seconds(decode, device):.0f} frames/s")
    for variant in variants:
        made = predictor(variant, device, precision)
        list(made.predict(CLIP, end=1.0))
        spent = seconds(partial(predict_all, made, CLIP, PredictSettings(stride=1)), device)
        name = precision_name(precision)
        row(f"{variant} {name} decode to maps at 640x360", f"{count / spent:.2f} maps/s")


def measure_compiled(variant: str, device: torch.device, precision: torch.dtype) -> None:
    """What torch.compile and CUDA graphs add to one batch of 4 windows."""
    made = prepare_for_inference(network(variant)).to(device)
    inputs = torch.rand(4, 3, 16, 224, 384, device=device), torch.rand(4, 1, 257, 111).to(device)
    if not made.uses_pixels:
        inputs = inputs[0][:, :, 3::4], inputs[1]
    modes = {"as it is": None, "torch.compile": "default", "with CUDA graphs": "reduce-overhead"}
    with torch.inference_mode(), torch.autocast(device.type, precision):
        for name, mode in modes.items():
            call = made if mode is None else torch.compile(made, mode=mode)
            what = f"{variant} {precision_name(precision)} 4 windows, {name}"
            try:
                first = seconds(partial(call, *inputs), device)
                for _ in range(3):
                    call(*inputs)
                spent = [seconds(partial(call, *inputs), device) for _ in range(10)]
            except Exception as error:  # a compiler may be missing; the rest of the table stands
                row(what, "-", " ".join(str(error).split())[:80])
                continue
            value = f"{1000 * statistics.median(spent):.1f} ms"
            row(what, value, f"first call {first:.1f} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--reduced", action="store_true", help="a minute on a CPU")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    on_gpu = device.type == "cuda"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    where = torch.cuda.get_device_name(device) if on_gpu else f"{torch.get_num_threads()} threads"
    print(f"torch {torch.__version__}, {where}, TF32 off")
    half = [torch.float16, torch.bfloat16] if on_gpu else []
    if not on_gpu and cpu_has_bfloat16():
        half = [torch.bfloat16]
    reduced = arguments.reduced
    fine = check_goldens(device, ["s3d-224x224"] if reduced else parity_check.VARIANT_NAMES)
    for variant in [SMALL] if reduced else [FULL, SMALL]:
        fine &= check_half(variant, device, half, 6 if reduced else 40)
        base = published(variant, device, 2 if reduced else 10)
        count = 8 if reduced else 200 if on_gpu else 20
        batches: list[int | None] = [4] if reduced else [1, 4, 16, None]
        precisions = [torch.float32, *([] if reduced else half)]
        measure_speed(variant, device, precisions, batches, count, base)
    if not reduced:
        measure_videos(device, [FULL, SMALL] if on_gpu else [SMALL], (half or [torch.float32])[0])
    if on_gpu:
        for variant in (FULL, SMALL):
            count_waits(variant, device, torch.float16)
            measure_compiled(variant, device, torch.float16)
    print("all checks passed" if fine else "A CHECK FAILED")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
