"""The base class of the networks: image features that windows share, sound, alignment."""

from __future__ import annotations

import torch
from torch import nn

from avsal.errors import UsageError
from avsal.models.blocks import kept
from avsal.models.fusion import Fused, alignment_loss, predictor, projector
from avsal.models.variants import Variant

SPECTROGRAM = (257, 111)  # frequencies and columns of the audio encoder's input
STRIDE = 32  # of the coarsest features; heights and widths must be multiples of it

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # RGB, of pixels scaled to 0..1
IMAGENET_STD = (0.229, 0.224, 0.225)

Features = tuple[torch.Tensor, ...]


class SaliencyNetwork(nn.Module):
    """Clip (B, 3, T, H, W) and spectrogram (B, 1, 257, 111) -> log-density (B, H, W).

    Frames are RGB, normalised with ImageNet's mean and standard deviation. T is `frames`; H and W
    are multiples of 32. A subclass implements `image_features`, `_motion` and `_decode`.

    Attributes:
        variant: the settings from which the network was built.
        uses_pixels: whether the output depends on the clip, apart from its image features.
        uses_images: whether there are image features, which windows with common frames share.
        fixed_size: the only (H, W) that the network accepts; None for every multiple of 32.
    """

    image_encoder: nn.Module
    audnet: nn.Module
    aud_vis_sync_block: nn.Module
    uses_pixels = True
    uses_images = True
    fixed_size: tuple[int, int] | None = None

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.variant = variant

    def _add_heads(self) -> None:
        """Add the training heads (section 3.4), on which the map does not depend."""
        dim, norm = self.variant.fusion_dim, self.variant.head_norm
        self.vis_projector = projector(dim, norm)
        self.mlp_vis = predictor(norm)
        self.aud_projector = projector(dim, norm)
        self.mlp_aud = predictor(norm)

    @property
    def frames(self) -> int:
        """Number of frames in a clip."""
        return self.variant.frames

    @property
    def uses_audio(self) -> bool:
        """Whether the output depends on the spectrogram."""
        return bool(self.variant.audio)

    def image_features(self, frames: torch.Tensor) -> Features:
        """Features of single frames (N, 3, H, W), each (N, C, h, w), finest first.

        They depend on the frame alone, so windows with common frames can share them. Empty for a
        network without an image branch.
        """
        raise NotImplementedError

    def forward(self, clip: torch.Tensor, spectrogram: torch.Tensor | None = None) -> torch.Tensor:
        """Log-density (B, H, W) in float32; logsumexp over its pixels is 0.

        Raises UsageError if the clip's shape does not fit the network.
        """
        return self.forward_with_features(clip, self._window_features(clip), spectrogram)

    def forward_with_features(
        self,
        clip: torch.Tensor | None,
        features: Features,
        spectrogram: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Like `forward`, from the clip's image features, each stacked to (B, T, C, h, w).

        A network that does not use pixels needs no clip.
        """
        return self._forward(clip, features, spectrogram)[0]

    def forward_with_alignment(
        self, clip: torch.Tensor, spectrogram: torch.Tensor, has_sound: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-density (B, H, W) and the audio-visual loss (eq. 7), a scalar; needs the heads.

        `has_sound`, bool (B,), marks the samples with sound; None means all. Silent samples do not
        contribute to the loss. Raises UsageError without heads.
        """
        if not hasattr(self, "vis_projector"):
            raise UsageError("this network has no training heads; build it with heads=True")
        log_density, fused = self._forward(clip, self._window_features(clip), spectrogram)
        assert fused is not None
        visual, audio = self.vis_projector(fused.visual), self.aud_projector(fused.audio)
        predicted = self.mlp_vis(visual), self.mlp_aud(audio)
        return log_density, alignment_loss(*predicted, visual, audio, has_sound)

    def _forward(
        self, clip: torch.Tensor | None, features: Features, spectrogram: torch.Tensor | None
    ) -> tuple[torch.Tensor, Fused | None]:
        motion = self._motion(clip, features)
        fused = self._fuse(motion[-1], spectrogram)
        return self._decode(motion, features, fused, spectrogram), fused

    def _motion(self, clip: torch.Tensor | None, features: Features) -> Features:
        """Motion features, finest first; sound is fused with the last."""
        raise NotImplementedError

    def _decode(
        self,
        motion: Features,
        features: Features,
        fused: Fused | None,
        spectrogram: torch.Tensor | None,
    ) -> torch.Tensor:
        """Log-density (B, H, W)."""
        raise NotImplementedError

    def _window_features(self, clip: torch.Tensor) -> Features:
        self._check(clip)
        frames = clip.transpose(1, 2)
        if self.uses_images and self.training and not self.image_encoder.training:
            return self._distinct_features(frames)
        return tuple(
            feature.unflatten(0, frames.shape[:2])
            for feature in self.image_features(frames.flatten(0, 1))
        )

    def _distinct_features(self, frames: torch.Tensor) -> Features:
        """Compute features of frames (B, T, 3, H, W) once for equal neighbouring frames: half of
        the training samples may be still images, and a frozen encoder gives equal features."""
        is_new = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)
        is_new[:, 1:] = (frames[:, 1:] != frames[:, :-1]).flatten(2).any(dim=2)
        index = is_new.flatten().cumsum(0).unflatten(0, is_new.shape) - 1
        return tuple(feature[index] for feature in self.image_features(frames[is_new]))

    def _fuse(self, deepest: torch.Tensor, spectrogram: torch.Tensor | None) -> Fused | None:
        if not self.uses_audio:
            return None
        if spectrogram is None:
            raise UsageError("this network uses sound: give it a spectrogram (B, 1, 257, 111)")
        return self.aud_vis_sync_block(deepest, self.audnet(spectrogram))

    def _check(self, clip: torch.Tensor) -> None:
        height, width = clip.shape[-2:]
        if clip.dim() != 5 or clip.shape[1:3] != (3, self.frames):
            shape = tuple(clip.shape)
            raise UsageError(f"clip of shape {shape}: (B, 3, {self.frames}, H, W) is needed")
        if self.fixed_size and (height, width) != self.fixed_size:
            raise UsageError(
                f"{self.variant.motion} takes {self.fixed_size[0]}x{self.fixed_size[1]} frames "
                f"only, not {height}x{width}: choose another variant or resize"
            )
        if height % STRIDE or width % STRIDE:
            raise UsageError(
                f"frames of {height}x{width}: height and width must be multiples of {STRIDE}"
            )


def normalise(frames: torch.Tensor) -> torch.Tensor:
    """Pixels 0..255 to a network's range, uint8 (N, 3, h, w) -> float32 of the same shape."""
    mean, std = _statistics(frames.device)
    return (frames.float() / 255 - mean) / std


@kept
def _statistics(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation (3, 1, 1), kept: making them on a GPU would stop the host every time."""
    mean = torch.tensor(IMAGENET_MEAN, dtype=torch.float32, device=device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, dtype=torch.float32, device=device).view(3, 1, 1)
    return mean, std
