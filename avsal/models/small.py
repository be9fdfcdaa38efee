"""avsal's default network: the paper's three streams and fusion at a size for two CPU cores.

The image stream runs once on a frame, and the motion stream remembers and compares what it gave for
a few frames at fixed distances in time, so that a window costs little more than its newest frame.

Skips, recurrence and decoder have the shape of UNISAL's (Droste, Jiao and Noble, ECCV 2020): it
reads MobileNet-V2 at strides 8, 16 and 32, adds learned Gaussian priors, remembers what it saw with
a convolutional GRU at stride 32, and decodes with two inverted bottlenecks. Training starts from
its weights; normalisation is part of the convolutions. Motion at stride 16 and sound are new.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, product
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from avsal.models.blocks import grow, run
from avsal.models.encoders.mobilenetv2 import SkippedMobileNetV2
from avsal.models.encoders.resnet import ResNet18
from avsal.models.fusion import AudioVisualFusion, Fused
from avsal.models.network import Features, SaliencyNetwork
from avsal.models.variants import Variant

SKIP8, SKIP16, DEEP = 64, 128, 256  # channels of a frame's features at strides 8, 16 and 32
MOTION16 = 32  # channels of the change between the last two frames, at stride 16
WIDEST = 1280  # channels of MobileNet-V2's last convolution
PRIORS = 16  # Gaussians
PRIOR_SCALE = 6.0  # their height
SMOOTHING = 7  # cells of stride 8 that a pixel of the map is smoothed over
CENTRE_LOGIT = -2.0  # logit of the centre bias's share in an untrained network's maps
LUMA = (0.299 * 255 * 0.229, 0.587 * 255 * 0.224, 0.114 * 255 * 0.225)  # of RGB
CUT = 20.0  # levels of 255 that a cut changes the mean cell by
NOISE = 0.5  # levels of 255 that are added to the mean change
MOST_MOTION = 4.0  # times the mean change
CENTRE_SPREAD = 0.22  # deviation of the Gaussian that moving pictures are drawn to, of both sides
BRIGHTNESS = 3  # place of the frames' brightness among the features
MODULATION = 64  # channels of the head that turns fused features into a change of the map


class SmallNetwork(SaliencyNetwork):
    """The default network; see `SaliencyNetwork` for its inputs and its output.

    T is 4 frames. Image features are (N, 64, H/8, W/8), (N, 128, H/16, W/16), (N, 256, H/32, W/32)
    and the frames' brightness (N, 1, H/8, W/8). The clip has no other influence.
    """

    uses_pixels = False

    def __init__(self, variant: Variant, heads: bool = False) -> None:
        """Make it with random weights; `heads` adds the training heads."""
        super().__init__(variant)
        dim = variant.fusion_dim if variant.audio else None
        if variant.audio:
            audio_encoder = ResNet18(variant.audio_width)
            self.audnet = audio_encoder
        self.image_encoder = SkipEncoder()
        self.visnet = Recurrence()
        if dim:
            self.aud_vis_sync_block = AudioVisualFusion(
                DEEP + MOTION16, audio_encoder.channels, dim
            )
            if heads:
                self._add_heads()
        self.decoder = SmallDecoder(dim)

    def image_features(self, frames: torch.Tensor) -> Features:
        return *self.image_encoder(frames), brightness(frames)

    def silent(self, features: Features) -> torch.Tensor:
        """As `forward_with_features` for windows without sound, which is faster."""
        return self._decode(self._motion(None, features), features, None, None)

    def _motion(self, clip: torch.Tensor | None, features: Features) -> Features:
        return self.visnet(features[:3])

    def _decode(
        self,
        motion: Features,
        features: Features,
        fused: Fused | None,
        spectrogram: torch.Tensor | None,
    ) -> torch.Tensor:
        change = None
        if fused is not None and spectrogram is not None:
            change = self.change_by_sound(fused, features[1][:, -1], spectrogram)
        return self.decoder(features, motion, change)

    def change_by_sound(
        self, fused: Fused, stride16: torch.Tensor, spectrogram: torch.Tensor
    ) -> torch.Tensor:
        """How sound changes the scores at stride 16, (B, 1, H/16, W/16)."""
        return self.decoder.listen(fused, stride16, audio_activity(spectrogram))


def relu6() -> nn.Module:
    """UNISAL's activation."""
    return nn.ReLU6(inplace=True)


def separable(channels: int, out: int) -> nn.Sequential:
    """Depth-wise 3x3, ReLU6, pointwise: (N, channels, h, w) -> (N, out, h, w)."""
    depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
    return nn.Sequential(depthwise, relu6(), nn.Conv2d(channels, out, 1))


def bottleneck(channels: int, inner: int, out: int) -> nn.Sequential:
    """Pointwise to `inner` channels, then `separable`, with ReLU6 between."""
    return nn.Sequential(nn.Conv2d(channels, inner, 1), relu6(), *separable(inner, out))


def skip(channels: int, out: int) -> nn.Sequential:
    """Two pointwise convolutions over twice the channels."""
    inner = 2 * channels
    return nn.Sequential(nn.Conv2d(channels, inner, 1), relu6(), nn.Conv2d(inner, out, 1))


def decoded(stage: nn.Sequential, coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
    """What a bottleneck makes of `cat((grow(coarse, 2), fine), dim=1)`.

    Its first convolution is linear, and so is growing: `coarse` goes through it before it
    grows, where it has a quarter of the positions.
    """
    widen, *rest = stage
    assert isinstance(widen, nn.Conv2d)
    of_coarse, of_fine = widen.weight.split((coarse.shape[1], fine.shape[1]), dim=1)
    x = grow(F.conv2d(coarse, of_coarse), 2) + F.conv2d(fine, of_fine, widen.bias)
    return run(rest, x)


def _positions(count: int, like: torch.Tensor) -> torch.Tensor:
    """`count` positions from 0 to 1 (one alone is 0), of the type and on the device of `like`."""
    steps = torch.arange(count, dtype=like.dtype, device=like.device)
    return steps / steps[-1:].clamp(min=1)


class Prior(nn.Module):
    """Learnt Gaussians over the picture, where people look whatever is to be seen.

    `gaussians` (16, 2, 2): for y and x the mean and the logarithm of the deviation, as fractions of
    the picture's height and width.
    """

    def __init__(self) -> None:
        super().__init__()
        thirds = [(y, x, -1.5, -1.5) for y, x in product((0.25, 0.5, 0.75), repeat=2)]
        rows = [(0.5, x, 0.0, -1.5) for x in (0.25, 0.5, 0.75)]
        columns = [(y, 0.5, -1.5, 0.0) for y in (0.25, 0.5, 0.75)]
        start = torch.tensor([*thirds, *rows, *columns, (0.5, 0.5, 0.0, 0.0)])
        self.gaussians = nn.Parameter(start.view(PRIORS, 2, 2).transpose(1, 2).contiguous())

    def forward(self, height: int, width: int) -> torch.Tensor:
        """Maps (16, height, width)."""
        rows, columns = (
            torch.exp(-0.5 * ((_positions(count, axis) - axis[:, :1]) / axis[:, 1:].exp()) ** 2)
            for count, axis in zip((height, width), self.gaussians.unbind(dim=1), strict=True)
        )
        return PRIOR_SCALE * rows[:, :, None] * columns[:, None, :]


class SkipEncoder(nn.Module):
    """The image stream: frames (N, 3, H, W) -> features of each frame.

    (N, 64, H/8, W/8), (N, 128, H/16, W/16) and (N, 256, H/32, W/32).
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = SkippedMobileNetV2()
        self.skip_8 = skip(64, SKIP8)
        self.skip_16 = skip(160, SKIP16)
        self.widen = nn.Sequential(nn.Conv2d(320, WIDEST, 1), relu6())
        self.prior = Prior()
        self.reduce = separable(WIDEST + PRIORS, DEEP)

    def forward(self, frames: torch.Tensor) -> Features:
        return self.refine(self.encoder(frames))

    def refine(self, features: Features) -> Features:
        """From the encoder's features (N, 64, ...), (N, 160, ...) and (N, 320, ...)."""
        stride8, stride16, stride32 = features
        return self.skip_8(stride8), self.skip_16(stride16), self.deepened(stride32)

    def deepened(self, stride32: torch.Tensor) -> torch.Tensor:
        """Features with the prior: (N, 320, h, w) -> (N, 256, h, w)."""
        wide = self.widen(stride32)
        priors = self.prior(*wide.shape[-2:]).to(wide.dtype).expand(len(wide), -1, -1, -1)
        return self.reduce(torch.cat((wide, priors), dim=1))


class Recurrence(nn.Module):
    """The motion stream: features of a window's frames, oldest first -> what they say together.

    A convolutional GRU over the coarsest features, which starts at zero, and the change between the
    last two frames at stride 16.
    """

    def __init__(self) -> None:
        super().__init__()
        for gate in ("reset", "update", "new"):
            self.add_module(f"{gate}_seen", separable(DEEP, DEEP))
            self.add_module(f"{gate}_held", separable(DEEP, DEEP))
        self.recall = nn.Sequential(nn.Conv2d(DEEP, DEEP, 1), relu6())
        self.change = nn.Sequential(nn.Conv2d(SKIP16, MOTION16, 1), nn.ReLU(inplace=True))

    def forward(self, features: Features) -> Features:
        """Features (B, T, C, h, w) at three strides -> motion features; see `combine`."""
        _, stride16, deep = features
        gates = self.gates(deep.flatten(0, 1)).unflatten(0, deep.shape[:2]).unbind(dim=1)
        return self.combine(stride16[:, -1], stride16[:, -2], deep[:, -1], gates)

    def gates(self, deep: torch.Tensor) -> torch.Tensor:
        """What the GRU's three gates make of single frames: (N, 256, h, w) -> (N, 768, h, w)."""
        parts = [self.get_submodule(f"{gate}_seen")(deep) for gate in ("reset", "update", "new")]
        return torch.cat(parts, dim=1)

    def combine(
        self,
        stride16: torch.Tensor,
        stride16_before: torch.Tensor,
        deep: torch.Tensor,
        gates: Sequence[torch.Tensor],
    ) -> Features:
        """Motion features from the last frame's, and the gates (B, 768, h, w) of each frame.

        Returns:
            (B, C, 1, h, w) each: the change since the frame before (32 channels, stride 16), the
            frame with its past (256, stride 32), and both at stride 32 for the fusion.
        """
        change = self.change((stride16 - stride16_before).abs())
        state = deep.new_zeros(1, DEEP, 1, 1)  # at every position: convolutions of it cost nothing
        for reset, update, new in (each.chunk(3, dim=1) for each in gates):
            state = self.step(state, reset, update, new)
        seen = deep + self.recall(state)
        tokens = torch.cat((seen, F.avg_pool2d(change, 2)), dim=1)
        return change[:, :, None], seen[:, :, None], tokens[:, :, None]

    def step(
        self, state: torch.Tensor, reset: torch.Tensor, update: torch.Tensor, new: torch.Tensor
    ) -> torch.Tensor:
        """The state after one more frame, from what the three gates make of the frame's features;
        all are (B, 256, h, w), the state before the first frame (1, 256, 1, 1)."""
        kept = torch.sigmoid(reset + self.get_submodule("reset_held")(state))
        taken = torch.sigmoid(update + self.get_submodule("update_held")(state))
        proposed = torch.tanh(new + kept * self.get_submodule("new_held")(state))
        return state + taken * (proposed - state)


class SmallDecoder(nn.Module):
    """Features and past of the last frame, brightness of all, and what sound changes ->
    log-density (B, H, W).

    `habit` and `listen` are the names that published weights have for the centre bias and the audio
    modulation.
    """

    pointwise_pairs: ClassVar = (("fine.4", "score"),)

    def __init__(self, fusion_dim: int | None) -> None:
        super().__init__()
        self.middle = bottleneck(DEEP + SKIP16 + MOTION16, 2 * (DEEP + SKIP16), SKIP16)
        self.fine = bottleneck(SKIP16 + SKIP8, 2 * (SKIP16 + SKIP8), SKIP8)
        self.score = nn.Conv2d(SKIP8, 1, 1)
        self.smooth = nn.Conv2d(1, 8 * 8, SMOOTHING, bias=False)
        self.habit = CentreBias()
        self.motion = MotionModulation()
        if fusion_dim is not None:
            self.listen = AudioModulation(fusion_dim)

    def forward(
        self,
        features: Features,
        motion: Features,
        change: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Features (B, T, C, h, w), motion as `Recurrence` gives it, change of the scores at stride
        16 by sound (B, 1, h, w)."""
        scores = self.scores(features, motion)
        if len(features) > BRIGHTNESS:
            scores = scores + self.motion(features[BRIGHTNESS])
        if change is not None:
            scores = scores + grow(change, 2)
        return self.mapped(scores)

    def mapped(self, scores: torch.Tensor) -> torch.Tensor:
        """Log-densities (B, H, W) of scores (B, 1, H/8, W/8)."""
        logits = self.smoothed(scores).float()
        log_density: torch.Tensor = logits.flatten(1).log_softmax(dim=1).view_as(logits)
        return self.habit(log_density)

    def scores(self, features: Features, motion: Features) -> torch.Tensor:
        """Scores (B, 1, H/8, W/8) of the picture alone."""
        change, seen = (volume.squeeze(2) for volume in motion[:2])
        stride8, stride16 = (feature[:, -1] for feature in features[:2])
        middle = decoded(self.middle, seen, torch.cat((stride16, change), dim=1))
        return self.score(decoded(self.fine, middle, stride8))

    def smoothed(self, scores: torch.Tensor) -> torch.Tensor:
        """Scores (B, 1, h, w) of cells -> logits (B, 8 h, 8 w) of pixels, each a weighted sum of
        the cells around it."""
        margin = SMOOTHING // 2
        padded = F.pad(scores, (margin, margin, margin, margin), mode="replicate")
        return F.pixel_shuffle(self.smooth(padded), 8).squeeze(1)


class CentreBias(nn.Module):
    """A share of every map that does not depend on the picture: a Gaussian about its centre.

    `share` is a logit; `middle` and `spread` are (y, x) as fractions of height and width, the
    latter as logarithms.
    """

    def __init__(self) -> None:
        super().__init__()
        self.middle = nn.Parameter(torch.tensor([0.5, 0.5]))
        self.spread = nn.Parameter(torch.tensor([-1.5, -1.5]))
        self.share = nn.Parameter(torch.tensor(CENTRE_LOGIT))

    def forward(self, log_density: torch.Tensor) -> torch.Tensor:
        """Log-densities (B, H, W) -> (B, H, W)."""
        centre = self.gaussian(log_density) + F.logsigmoid(self.share)
        picture = log_density + F.logsigmoid(-self.share)
        # As logaddexp does, in the few operations that ONNX has fast code for.
        excess = torch.log(1 + torch.exp(-(picture - centre).abs()))
        return torch.maximum(picture, centre) + excess

    def gaussian(self, like: torch.Tensor) -> torch.Tensor:
        """The Gaussian as a log-density (H, W)."""
        rows, columns = (
            -0.5 * ((_positions(count, like) - middle) / spread.exp()) ** 2
            for count, middle, spread in zip(like.shape[-2:], self.middle, self.spread, strict=True)
        )
        return rows.log_softmax(dim=0)[:, None] + columns.log_softmax(dim=0)


class AudioModulation(nn.Module):
    """How sound moves the map: a change of the scores at stride 16, 0 without sound.

    Fused volume (B, dim, 1, h, w) and features of the last frame (B, 128, 2 h, 2 w) -> (B, 1, 2 h,
    2 w): the features of a position, weighted by the sound. `gate` judges from the sound whether
    people look for its source; `activity` (B,) is the fraction of the window that has sound at all.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fused = nn.Conv2d(dim, MODULATION, 1)
        self.frame = nn.Conv2d(SKIP16, MODULATION, 1)
        self.heard = nn.Linear(dim, MODULATION)
        self.change = nn.Conv2d(MODULATION, 1, 1)
        self.gate = nn.Linear(dim, 1)

    def forward(self, fused: Fused, frame: torch.Tensor, activity: torch.Tensor) -> torch.Tensor:
        seen = torch.relu(grow(self.fused(fused.volume.squeeze(2)), 2) + self.frame(frame))
        matched = seen * self.heard(fused.audio)[:, :, None, None]
        strength = activity[:, None] * torch.sigmoid(self.gate(fused.audio))
        return strength[:, :, None, None] * self.change(matched)


class MotionModulation(nn.Module):
    """How motion moves the map: a change of the scores, 0 for a still picture.

    The map rises where the picture changes, unless it changes everywhere, as it does before a
    moving camera. The more it changes as a whole, the nearer to its centre people look.

    `gain` multiplies the first, `centre` the second, the logarithm of a Gaussian. `slope`, of the
    rise with local motion, and `camera`, the mean change in levels of 255 at which it is e times
    weaker, are logarithms.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.0))
        self.slope = nn.Parameter(torch.tensor(0.7))
        self.camera = nn.Parameter(torch.tensor(0.9))
        self.centre = nn.Parameter(torch.tensor(0.0))

    def forward(self, brightness: torch.Tensor) -> torch.Tensor:
        """Brightness of a window's frames (B, T, 1, h, w) -> (B, 1, h, w)."""
        energy, mean = motion_energy(brightness.squeeze(2))
        still = torch.exp(-mean / self.camera.exp())
        local = self.gain * torch.log1p(self.slope.exp() * still * energy)
        rows, columns = (
            -0.5 * ((_positions(count, energy) - 0.5) / CENTRE_SPREAD) ** 2
            for count in energy.shape[-2:]
        )
        change: torch.Tensor = local + self.centre * (1 - still) * (rows[:, None] + columns)
        return change[:, None]


def brightness(frames: torch.Tensor) -> torch.Tensor:
    """Mean brightness of cells of 8x8 pixels, in levels of 255: normalised frames (N, 3, H, W) ->
    (N, 1, H/8, W/8)."""
    # Means over rows of 8 and then over columns: what ONNX Runtime is quicker at than at a pooling.
    rows = frames.float().unflatten(-1, (-1, 8)).mean(dim=-1)
    colours = rows.unflatten(-2, (-1, 8)).mean(dim=-2)
    weights = torch.tensor(LUMA, dtype=colours.dtype, device=colours.device).view(3, 1, 1)
    return (colours * weights).sum(dim=1, keepdim=True)


def motion_energy(brightness: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the picture changes, relative to its mean change, and this mean in levels of 255.

    Brightness of a window's frames (B, T, h, w) -> (B, h, w) and (B, 1, 1). What lies before a cut
    does not count. Changes so small as a codec's noise give nearly nothing.
    """
    changes = (brightness[:, 1:] - brightness[:, :-1]).abs()
    same_scene = (changes.mean(dim=(2, 3)) < CUT).to(changes)
    # All changes from each one to the last are within the scene; ONNX has no cumulative product.
    products = accumulate(reversed(same_scene.unbind(dim=1)), torch.mul)
    same_scene = torch.stack(list(products)[::-1], dim=1)[:, :, None, None]
    change = (changes * same_scene).mean(dim=1)
    mean = change.mean(dim=(1, 2), keepdim=True)
    return (change / (mean + NOISE)).clamp(max=MOST_MOTION), mean


def audio_activity(spectrogram: torch.Tensor) -> torch.Tensor:
    """Fraction of the columns of (B, 1, 257, 111) that have sound, (B,): a column is standardised
    over its frequencies, so that its deviation is 1 with sound and 0 without."""
    return spectrogram.float().std(dim=2).mean(dim=(1, 2)).clamp(max=1)
