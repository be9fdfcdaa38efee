"""The MSPI network (Xie et al. 2024): image saliency, motion and sound to a log-density."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from avsal.errors import UsageError
from avsal.models.ablations import (
    ChannelBilinear,
    ConsistentInteraction,
    Interaction,
    MapAdapter,
    MapAttention,
    MapEncoder,
    SpatialBilinear,
)
from avsal.models.decoder import Lateral, Readout, top_down
from avsal.models.encoders import MOTION, find
from avsal.models.encoders.resnet import ResNet18
from avsal.models.fusion import AudioVisualFusion, Fused
from avsal.models.image import Adapter, ImageEncoder, SpatialAttention
from avsal.models.network import STRIDE, Features, SaliencyNetwork
from avsal.models.variants import Variant

# Makers of the fusion from the channels of motion, of sound and of its output. AVFB is the
# published one; the others are those that the paper compares it with (Table 5).
FUSIONS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "avfb": AudioVisualFusion,
    "bilinear_channel": ChannelBilinear,
    "bilinear_space": SpatialBilinear,
    "avim": Interaction,
    "avim_cpc": ConsistentInteraction,
}


class ImageBranch(NamedTuple):
    """Makers of the image branch: encoder by name, adapter, and attention by the ratio of the
    sizes of motion features and stride-16 features."""

    encoder: Callable[[str], nn.Module]
    adapter: Callable[[], nn.Module]
    attention: Callable[[int], nn.Module]


IMAGE_BRANCHES: dict[str, ImageBranch] = {
    "features": ImageBranch(ImageEncoder, Adapter, SpatialAttention),
    "map": ImageBranch(MapEncoder, MapAdapter, MapAttention),
}


class MSPI(SaliencyNetwork):
    """The paper's network; see `SaliencyNetwork` for its inputs and its output.

    T is 16 frames. H and W are multiples of 32 unless the motion encoder fixes them. Attribute
    names are those of the published weights. Image features are o1 (N, 96, H/16, W/16) and o0
    (N, 320, H/32, W/32), or one map (N, 1, H/4, W/4) where the variant fuses maps.
    """

    def __init__(self, variant: Variant, heads: bool = False) -> None:
        """Make it with random weights; `heads` adds the training heads."""
        super().__init__(variant)
        motion = find(MOTION, "motion encoder", variant.motion)
        self.uses_images = variant.image is not None
        self.fixed_size = motion.fixed_size
        deepest = motion.channels[-1]
        if variant.audio:
            audio_encoder = ResNet18(variant.audio_width)
            self.audnet = audio_encoder
        if variant.image:
            branch = find(IMAGE_BRANCHES, "image output", variant.image_output)
            self.image_encoder = branch.encoder(variant.image)
        self.visnet = motion.build()
        if variant.audio:
            fusion, dim = find(FUSIONS, "fusion", variant.fusion), variant.fusion_dim
            self.aud_vis_sync_block = fusion(deepest, audio_encoder.channels, dim)
            deepest += dim
            if heads:
                self._add_heads()
        self._add_decoder((*motion.channels[:-1], deepest), motion.lateral_strides)

    def _add_decoder(self, channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
        variant, width = self.variant, self.variant.decoder_width
        for scale, (depth, stride) in enumerate(zip(channels, strides, strict=True)):
            self.add_module(f"latlayer_{scale}", Lateral(depth, width, stride))
        stride = STRIDE >> (len(channels) - 1)  # of the finest scale
        self.readout = Readout(width, len(channels), stride)
        if variant.image:
            branch = IMAGE_BRANCHES[variant.image_output]
            self.adapter = branch.adapter()
            for scale in range(len(channels) - 1):
                attention = branch.attention(2 ** (len(channels) - 2 - scale))
                self.add_module(f"sa_{scale}", attention)

    def image_features(self, frames: torch.Tensor) -> Features:
        if not self.uses_images:
            return ()
        return self.image_encoder(frames)

    def _motion(self, clip: torch.Tensor | None, features: Features) -> Features:
        """v1..v4; channels-last memory suits CPU convolutions, and lasts into the decoder."""
        if clip is None:
            raise UsageError(f"{self.variant.motion} needs the clip's pixels")
        self._check(clip)
        if clip.device.type == "cpu":
            clip = clip.contiguous(memory_format=torch.channels_last_3d)
        return self.visnet(clip)

    def _decode(
        self,
        motion: Features,
        features: Features,
        fused: Fused | None,
        spectrogram: torch.Tensor | None,
    ) -> torch.Tensor:
        inputs = list(motion)
        if fused is not None:
            inputs[-1] = torch.cat((inputs[-1], fused.volume), dim=1)
        scales = [self.get_submodule(f"latlayer_{i}")(x) for i, x in enumerate(inputs)]
        if self.uses_images:
            masks = self.adapter(features)
            for i in range(len(scales) - 1):
                scales[i] = self.get_submodule(f"sa_{i}")(scales[i], masks)
        logits = self.readout(top_down(scales)).flatten(1, 3).float()
        return logits - logits.logsumexp(dim=(1, 2), keepdim=True)
