"""The MSPI network (Xie et al. 2024): image saliency, motion and sound to a log-density."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from avsal.errors import UsageError
from avsal.models.compact import CompactDecoder, SkipEncoder, presence
from avsal.models.decoder import Lateral, Readout, top_down
from avsal.models.encoders import AUDIO, MOTION, find
from avsal.models.fusion import FUSIONS
from avsal.models.fusion.alignment import alignment_loss, predictor, projector
from avsal.models.fusion.tokens import Fused
from avsal.models.image import Adapter, ImageEncoder, SpatialAttention
from avsal.models.maps import MapAdapter, MapAttention, MapEncoder
from avsal.models.variants import Variant

SPECTROGRAM = (257, 111)  # frequencies and columns that the audio encoder was trained on
STRIDE = 32  # of the coarsest features: heights and widths are multiples of it

Features = tuple[torch.Tensor, ...]


class ImageBranch(NamedTuple):
    """Makers of the image branch: encoder by name, adapter by the channels of its masks, and
    attention by these and by the ratio of the sizes of motion features and stride-16 features."""

    encoder: Callable[[str], nn.Module]
    adapter: Callable[[int], nn.Module]
    attention: Callable[[int, int], nn.Module]


IMAGE_BRANCHES: dict[str, ImageBranch] = {
    "features": ImageBranch(ImageEncoder, Adapter, SpatialAttention),
    "skips": ImageBranch(lambda _name: SkipEncoder(), Adapter, SpatialAttention),
    "map": ImageBranch(
        MapEncoder, lambda _channels: MapAdapter(), lambda _channels, factor: MapAttention(factor)
    ),
}


class MSPI(nn.Module):
    """Clip (B, 3, T, H, W) and spectrogram (B, 1, 257, 111) -> log-density (B, H, W).

    Frames are RGB with ImageNet's mean and deviation taken out; T is `frames`, H and W are
    multiples of 32 unless the motion encoder fixes them. Attribute names are those of the published
    weights. `heads` adds the training heads, without influence on the map.
    """

    def __init__(self, variant: Variant, heads: bool = False) -> None:
        super().__init__()
        self.variant = variant
        motion = find(MOTION, "motion encoder", variant.motion)
        if motion.mixes and variant.image_output != "skips":
            raise UsageError(f'{variant.motion} mixes image features: image_output = "skips"')
        deepest = motion.channels[-1]
        if variant.audio:
            sound = find(AUDIO, "audio encoder", variant.audio)
            self.audnet = sound.build(variant.audio_width)
        if variant.image:
            branch = find(IMAGE_BRANCHES, "image output", variant.image_output)
            self.image_encoder = branch.encoder(variant.image)
        self.visnet = motion.build()
        if variant.audio:
            fusion, dim = find(FUSIONS, "fusion", variant.fusion), variant.fusion_dim
            heard = sound.expansion * variant.audio_width
            self.aud_vis_sync_block = fusion(deepest, heard, dim)
            deepest += dim
            if heads:
                self._add_heads(dim, variant.head_norm)
        if variant.decoder == "compact":
            self.decoder = CompactDecoder(variant.fusion_dim if variant.audio else None)
        else:
            self._add_decoder((*motion.channels[:-1], deepest), motion.lateral_strides)

    def _add_heads(self, dim: int, norm: str) -> None:
        self.vis_projector = projector(dim, norm)
        self.mlp_vis = predictor(norm)
        self.aud_projector = projector(dim, norm)
        self.mlp_aud = predictor(norm)

    def _add_decoder(self, channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
        variant = self.variant
        width = variant.decoder_width
        for scale, (depth, stride) in enumerate(zip(channels, strides, strict=True)):
            self.add_module(f"latlayer_{scale}", Lateral(depth, width, stride))
        stride = STRIDE >> (len(channels) - 1)  # of the finest scale
        self.readout = Readout(width, variant.readout_channels, len(channels), stride)
        if variant.image:
            branch, masks = IMAGE_BRANCHES[variant.image_output], variant.mask_channels
            self.adapter = branch.adapter(masks)
            for scale in range(len(channels) - 1):
                attention = branch.attention(masks, 2 ** (len(channels) - 2 - scale))
                self.add_module(f"sa_{scale}", attention)

    @property
    def frames(self) -> int:
        """Length of the clip: a window's 16 frames, or every fourth of them."""
        return MOTION[self.variant.motion].frames

    @property
    def uses_pixels(self) -> bool:
        """Whether the clip has an influence besides its image features."""
        return not MOTION[self.variant.motion].mixes

    @property
    def uses_audio(self) -> bool:
        """Whether the spectrogram has any influence."""
        return self.variant.audio is not None

    @property
    def uses_images(self) -> bool:
        """Whether there is an image saliency branch, hence features to share between windows."""
        return self.variant.image is not None

    def forward(self, clip: torch.Tensor, spectrogram: torch.Tensor | None = None) -> torch.Tensor:
        """Log-density (B, H, W) in float32; logsumexp over its pixels is 0.

        Raises UsageError where the clip's shape does not fit the network.
        """
        return self.forward_with_features(clip, self._window_features(clip), spectrogram)

    def image_features(self, frames: torch.Tensor) -> Features:
        """Features of single frames (N, 3, H, W), to be shared by the windows that hold them.

        o1 (N, 96, H/16, W/16) and o0 (N, 320, H/32, W/32), or one map (N, 1, H/4, W/4) where the
        variant fuses maps; empty without an image branch. A "pyramid" has stride 8 before o1.
        """
        if not self.uses_images:
            return ()
        features: Features = self.image_encoder(frames)
        return features

    def forward_with_features(
        self,
        clip: torch.Tensor | None,
        features: Features,
        spectrogram: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """As `forward`, from the clip's image features, each stacked to (B, T, C, h, w).

        A network that does not use pixels needs no clip.
        """
        volumes = self._motion(clip, features)
        fused = self._fuse(volumes[-1], spectrogram)
        return self._decode(volumes, features, fused, spectrogram)

    def silent(self, features: Features) -> torch.Tensor:
        """As `forward_with_features` without any sound, for networks that use no pixels and whose
        map then does not depend on how they hear."""
        return self._decode(self._motion(None, features), features, None, None)

    def forward_with_alignment(
        self, clip: torch.Tensor, spectrogram: torch.Tensor, heard: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-density (B, H, W) and the audio-visual loss (eq. 7), a scalar; needs the heads.

        `heard`, bool (B,), marks the samples that have sound; None is for all. Silent ones have no
        part in the loss. Raises UsageError without heads.
        """
        if not hasattr(self, "vis_projector"):
            raise UsageError("this network has no training heads; build it with heads=True")
        features = self._window_features(clip)
        volumes = self._motion(clip, features)
        fused = self._fuse(volumes[-1], spectrogram)
        assert fused is not None
        log_density = self._decode(volumes, features, fused, spectrogram)
        return log_density, self._alignment(fused, heard)

    def _motion(self, clip: torch.Tensor | None, features: Features) -> Features:
        """v1..v4; channels-last memory suits CPU convolutions, and lasts into the decoder."""
        if not self.uses_pixels:
            mixed: Features = self.visnet(features)
            return mixed
        if clip is None:
            raise UsageError(f"{self.variant.motion} needs the clip's pixels")
        self._check(clip)
        if clip.device.type == "cpu":
            clip = clip.contiguous(memory_format=torch.channels_last_3d)
        volumes: Features = self.visnet(clip)
        return volumes

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
        """Features of frames (B, T, 3, H, W), computed once for equal neighbours: half of a
        training run's samples may be still images, and a frozen encoder sees no difference."""
        new = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)
        new[:, 1:] = (frames[:, 1:] != frames[:, :-1]).flatten(2).any(dim=2)
        place = new.flatten().cumsum(0).unflatten(0, new.shape) - 1
        return tuple(feature[place] for feature in self.image_features(frames[new]))

    def _fuse(self, v4: torch.Tensor, spectrogram: torch.Tensor | None) -> Fused | None:
        if not self.uses_audio:
            return None
        if spectrogram is None:
            raise UsageError("this network hears: give it a spectrogram (B, 1, 257, 111)")
        fused: Fused = self.aud_vis_sync_block(v4, self.audnet(spectrogram))
        return fused

    def _alignment(self, fused: Fused, heard: torch.Tensor | None) -> torch.Tensor:
        visual, audio = self.vis_projector(fused.visual), self.aud_projector(fused.audio)
        return alignment_loss(self.mlp_vis(visual), self.mlp_aud(audio), visual, audio, heard)

    def _decode(
        self,
        volumes: Features,
        features: Features,
        fused: Fused | None,
        spectrogram: torch.Tensor | None,
    ) -> torch.Tensor:
        if self.variant.decoder == "compact":
            heard = None if fused is None or spectrogram is None else presence(spectrogram)
            log_density: torch.Tensor = self.decoder(features, volumes, fused, heard)
            return log_density
        logits = self._top_down(volumes, features, fused).float()
        return logits - logits.logsumexp(dim=(1, 2), keepdim=True)

    def _top_down(self, volumes: Features, features: Features, fused: Fused | None) -> torch.Tensor:
        """The paper's decoder: logits (B, H, W)."""
        inputs = list(volumes)
        if fused is not None:
            inputs[-1] = torch.cat((inputs[-1], fused.volume), dim=1)
        scales = [self.get_submodule(f"latlayer_{i}")(x) for i, x in enumerate(inputs)]
        if self.uses_images:
            masks = self.adapter(features)
            for i in range(len(scales) - 1):
                scales[i] = self.get_submodule(f"sa_{i}")(scales[i], masks)
        logits: torch.Tensor = self.readout(top_down(scales)).flatten(1, 3)
        return logits

    def _check(self, clip: torch.Tensor) -> None:
        fixed = MOTION[self.variant.motion].fixed_size
        height, width = clip.shape[-2:]
        if clip.dim() != 5 or clip.shape[1:3] != (3, self.frames):
            shape = tuple(clip.shape)
            raise UsageError(f"clip of shape {shape}: (B, 3, {self.frames}, H, W) is needed")
        if fixed and (height, width) != fixed:
            raise UsageError(
                f"{self.variant.motion} takes {fixed[0]}x{fixed[1]} frames only, "
                f"not {height}x{width}: choose another variant or resize"
            )
        if height % STRIDE or width % STRIDE:
            raise UsageError(
                f"frames of {height}x{width}: height and width must be multiples of {STRIDE}"
            )
