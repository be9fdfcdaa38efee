"""Published networks computed by OpenVINO.

PyTorch's export of a network is translated once, which takes about a minute, and kept in the user's
folder; a later process compiles it, in a few seconds. If that folder cannot be written, it is kept
in a temporary one until the process ends.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from torch import nn

from avsal import atomic, models
from avsal.errors import OutputError, WeightsError, exists
from avsal.models.folding import prepare_for_inference
from avsal.models.network import SPECTROGRAM, Features, SaliencyNetwork
from avsal.prediction.onnx_engine import windows_at_once
from avsal.prediction.openvino_engine import chosen_precision, compiled
from avsal.prediction.threads import after_fork, leave_to_parent
from avsal.prediction.torch_engine import TorchEngine
from avsal.weights.places import user_folder

logger = logging.getLogger("avsal")

FRAME, WINDOW = "frame.xml", "window.xml"  # OpenVINO's own format
_temporary: dict[Path, Path] = {}  # where translations are instead of their own folders
WRITTEN = (FRAME, WINDOW, "frame.bin", "window.bin")


class TranslatedEngine(TorchEngine):
    """A published network on a CPU: OpenVINO computes it, PyTorch prepares its inputs."""

    name = "openvino"

    def __init__(self, network: SaliencyNetwork, folder: Path, precision: str) -> None:
        """Take a loaded network, see `TorchEngine`.

        Args:
            folder: its `translation`, which is made if it is not there.
            precision: "fp32", "bf16", or "auto": bf16 on processors that have it.

        Raises:
            OutputError: the translation can be kept nowhere, not even in a temporary folder.
            WeightsError: the kept translation is damaged.
        """
        precision = chosen_precision(precision)
        translated = TranslatedNetwork(network, folder, precision)
        super().__init__(translated, torch.device("cpu"), torch.float32)
        self.precision = precision

    def automatic_batch(self, pixels: int) -> int:
        """Windows that are computed at once, by one thread each: layers that shared threads would
        wait for each other."""
        return windows_at_once()


class TranslatedNetwork(SaliencyNetwork):
    """Has no weights of its own; OpenVINO computes the features of a frame, and a window."""

    def __init__(self, network: SaliencyNetwork, folder: Path, precision: str) -> None:
        super().__init__(network.variant)
        self.uses_pixels, self.uses_images = network.uses_pixels, network.uses_images
        if not exists(folder):
            folder = _temporary.get(folder) or _make_translation(network, folder)
        self._frame = _Model(folder / FRAME, precision) if self.uses_images else None
        self._window = _Model(folder / WINDOW, precision)

    def image_features(self, frames: torch.Tensor) -> Features:
        """See `SaliencyNetwork.image_features`."""
        return () if self._frame is None else self._frame([frames])

    def forward_with_features(
        self,
        clip: torch.Tensor | None,
        features: Features,
        spectrogram: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """See `SaliencyNetwork.forward_with_features`."""
        inputs = [each for each in (clip, *features) if each is not None]
        if self.uses_audio and spectrogram is not None:
            inputs.append(spectrogram)
        (maps,) = self._window(inputs)
        return maps


class _Model:
    """A part of a translation; compiled anew in a process that it was sent to or that was forked.

    Raises WeightsError if it is damaged.
    """

    def __init__(self, path: Path, precision: str) -> None:
        self._path, self._precision = path, precision
        self._compiled: openvino.CompiledModel | None = None
        self._compile()
        after_fork(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Model, (self._path, self._precision)

    def orphan(self) -> None:
        """Forget what a forked child cannot use, whose threads are not there."""
        leave_to_parent(self._compiled)
        self._compiled = None

    def __call__(self, inputs: Sequence[torch.Tensor]) -> Features:
        """Outputs for each of a batch of inputs, which go through the model alone and at once."""
        model, requests = self._compile(), []
        for parts in zip(*(each.split(1) for each in inputs), strict=True):
            requests.append(model.create_infer_request())
            requests[-1].start_async([part.numpy() for part in parts])
        for request in requests:
            request.wait()
        outputs = zip(*(request.results.to_tuple() for request in requests), strict=True)
        return tuple(torch.from_numpy(np.concatenate(each)) for each in outputs)

    def _compile(self) -> openvino.CompiledModel:
        if self._compiled is None:
            try:
                self._compiled = compiled(self._path, self._precision)
            except RuntimeError as error:
                folder = self._path.parent
                raise WeightsError(f"{folder}: damaged; delete this folder") from error
        return self._compiled


class _Frame(nn.Module):
    def __init__(self, network: SaliencyNetwork) -> None:
        super().__init__()
        self._network = network

    def forward(self, frame: torch.Tensor) -> Features:
        return self._network.image_features(frame)


class _Window(nn.Module):
    """The inputs are the clip, its image features and, if the network hears, the spectrogram."""

    def __init__(self, network: SaliencyNetwork) -> None:
        super().__init__()
        self._network = network

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        heard = inputs[-1] if self._network.uses_audio else None
        features = inputs[1 : len(inputs) - (heard is not None)]
        return self._network.forward_with_features(inputs[0], features, heard)


def translation(network: SaliencyNetwork) -> Path:
    """The folder that a network's translation is kept in, whether it is there or not."""
    return user_folder().with_name("openvino") / f"{network.variant.name}-{_identity(network)}"


def _make_translation(network: SaliencyNetwork, folder: Path) -> Path:
    """Translate a network, and return the folder that the translation is in."""
    prepared = prepare_for_inference(network)
    try:
        with atomic.new_folder(folder, lambda _folder: WRITTEN) as new:  # perhaps by two at once
            logger.warning(
                "translating the network for OpenVINO once, in about a minute; it is kept in %s",
                folder,
            )
            _translate(prepared, new)
        return folder
    except OutputError as error:
        try:
            temporary = Path(tempfile.mkdtemp(prefix="avsal-"))
            atexit.register(_remove, temporary, os.getpid())
            logger.warning("%s; the network is translated for this process alone", error)
            _translate(prepared, temporary)
        except (OutputError, OSError):
            raise error from None
    _temporary[folder] = temporary
    return temporary


def _remove(folder: Path, owner: int) -> None:
    """Remove a folder, unless this is a forked child of the process that made it."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _identity(network: SaliencyNetwork) -> str:
    """A digest of all that a translation follows from: weights, code and versions."""
    digest = hashlib.sha256(f"{torch.__version__} {openvino.__version__}".encode())
    for source in sorted(Path(models.__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    for name, tensor in network.state_dict().items():
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@torch.no_grad()
def _translate(network: SaliencyNetwork, folder: Path) -> None:
    frames = torch.zeros(network.frames, 3, *network.variant.size)
    inputs = [frames.transpose(0, 1)[None].contiguous()]
    if network.uses_images:
        _save(_Frame(network), [frames[:1]], folder / FRAME)
        features = network.image_features(frames)
        inputs += [each.contiguous()[None] for each in features]
    if network.uses_audio:
        inputs.append(torch.zeros(1, 1, *SPECTROGRAM))
    _save(_Window(network), inputs, folder / WINDOW)


def _save(module: nn.Module, inputs: Sequence[torch.Tensor], path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch, about its own changes
        exported = torch.export.export(module.eval(), tuple(inputs))
        model = openvino.convert_model(exported)
    model.reshape({place: list(each.shape) for place, each in enumerate(inputs)})
    try:
        openvino.save_model(model, path, compress_to_fp16=False)
    except RuntimeError as error:  # which does not say what the system refused
        raise OutputError(
            f"{path.parent}: the translation cannot be written; free space or set AVSAL_HOME to "
            "another folder"
        ) from error
