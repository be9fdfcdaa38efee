"""Networks as ONNX models that need nothing else: pixels in, log-density out.

The default network takes one frame at a time, and hands over what the next frame needs as a state.
All other networks take a clip. Needs the packages onnx and onnxscript.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from avsal.models.folding import prepare_for_inference
from avsal.models.graphs import to_graph
from avsal.models.network import SPECTROGRAM, STRIDE, SaliencyNetwork, normalise
from avsal.models.small import DEEP, SKIP16, SmallNetwork, audio_activity

if TYPE_CHECKING:
    from onnx import ModelProto

SPACE16, SPACE8 = (STRIDE // 16) ** 2, (STRIDE // 8) ** 2  # cells in one of stride 32


class StreamGraph(nn.Module):
    """One frame of a stream, and the state after an earlier one -> log-density and new state.

    frame uint8 (1, H, W, 3); state (1, channels, H/32, W/32); spectrogram (1, 1, 257, 111) ->
    log-density (1, H, W) and the new state. A state of zeros means that there is no earlier frame,
    a spectrogram of zeros that there is no sound; then nothing is computed for it.
    """

    def __init__(self, network: SmallNetwork) -> None:
        super().__init__()
        self.network = network
        past = network.frames - 1
        self._past_frames = past
        self._channels = [past * 3 * DEEP, SPACE16 * SKIP16, past * SPACE8]

    @property
    def state_channels(self) -> int:
        """Channels of the state."""
        return sum(self._channels)

    def forward(
        self, frame: torch.Tensor, state: torch.Tensor, spectrogram: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        network = self.network
        frames = normalise(frame.permute(0, 3, 1, 2))
        stride8, stride16, deep, brightness = network.image_features(frames)
        gates = network.visnet.gates(deep)
        past = self._unpacked(state)
        before = (gates, stride16, brightness)  # of a first frame: it is taken to be its own past
        past_gates, past16, past_brightness = (
            torch.where((state != 0).any(), kept, now)
            for kept, now in zip(past, before, strict=True)
        )
        gates = torch.cat((past_gates, gates))
        brightness = torch.cat((past_brightness, brightness))
        motion = network.visnet.combine(stride16, past16, deep, gates.split(1))
        change = torch.cond(
            audio_activity(spectrogram)[0] > 0,
            self._change_by_sound,
            _no_change,
            (motion[-1], stride16, spectrogram),
        )
        features = (stride8[:, None], stride16[:, None], deep[:, None], brightness[None])
        log_density = network.decoder(features, motion, change)
        return log_density, self._packed(gates[1:], stride16, brightness[1:])

    def _change_by_sound(
        self, tokens: torch.Tensor, stride16: torch.Tensor, spectrogram: torch.Tensor
    ) -> torch.Tensor:
        fused = self.network._fuse(tokens, spectrogram)
        assert fused is not None
        return self.network.change_by_sound(fused, stride16, spectrogram)

    def _packed(
        self, gates: torch.Tensor, stride16: torch.Tensor, brightness: torch.Tensor
    ) -> torch.Tensor:
        """The past frames' gates and brightness and the last one's features, as channels of cells
        of stride 32."""
        parts = (
            gates.flatten(0, 1)[None],
            F.pixel_unshuffle(stride16, STRIDE // 16),
            F.pixel_unshuffle(brightness, STRIDE // 8).flatten(0, 1)[None],
        )
        return torch.cat(parts, dim=1)

    def _unpacked(self, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        gates, stride16, brightness = state.split(self._channels, dim=1)
        by_frame = brightness.unflatten(1, (self._past_frames, SPACE8)).squeeze(0)
        return (
            gates.unflatten(1, (self._past_frames, 3 * DEEP)).squeeze(0),
            F.pixel_shuffle(stride16, STRIDE // 16),
            F.pixel_shuffle(by_frame, STRIDE // 8),
        )


def _no_change(
    tokens: torch.Tensor, stride16: torch.Tensor, spectrogram: torch.Tensor
) -> torch.Tensor:
    return stride16.new_zeros(1, 1, *stride16.shape[2:])


class ClipGraph(nn.Module):
    """Clip uint8 (1, T, H, W, 3) and, for networks with sound, spectrogram (1, 1, 257, 111) ->
    log-density (1, H, W)."""

    def __init__(self, network: SaliencyNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, clip: torch.Tensor, spectrogram: torch.Tensor | None = None) -> torch.Tensor:
        frames = normalise(clip.flatten(0, 1).permute(0, 3, 1, 2))
        by_time = frames.unflatten(0, clip.shape[:2]).transpose(1, 2)
        log_density: torch.Tensor = self.network(by_time, spectrogram)
        return log_density


def to_onnx(network: SaliencyNetwork) -> ModelProto:
    """Return a network in evaluation mode as an ONNX model; it is put into inference form.

    Inputs and outputs are those of `StreamGraph` for the default network, whose heights and widths
    may be any multiples of 32, and of `ClipGraph` for all others.
    """
    prepare_for_inference(network)
    height, width = network.variant.size
    sound = torch.zeros(1, 1, *SPECTROGRAM)
    if not isinstance(network, SmallNetwork):
        clip = torch.zeros(1, network.frames, height, width, 3, dtype=torch.uint8)
        inputs = (clip, sound) if network.uses_audio else (clip,)
        names = ("clip", "spectrogram")[: len(inputs)]
        return to_graph(ClipGraph(network), inputs, names, ("log_density",), None)
    stream = StreamGraph(network)
    rows, columns = (torch.export.Dim(name, min=3, max=64) for name in "hw")
    frame = torch.zeros(1, height, width, 3, dtype=torch.uint8)
    state = torch.zeros(1, stream.state_channels, height // STRIDE, width // STRIDE)
    return to_graph(
        stream,
        (frame, state, sound),
        ("frame", "state", "spectrogram"),
        ("log_density", "new_state"),
        ({1: STRIDE * rows, 2: STRIDE * columns}, {2: rows, 3: columns}, None),
    )
