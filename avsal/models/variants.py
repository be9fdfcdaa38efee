"""The networks that can be built, as data: those that the paper evaluates, and a small one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Variant:
    """Everything that decides a network's shape; `models.build` turns it into a network.

    The defaults are those of the published networks (sections 3.2-3.5). `image=None` leaves out
    the image saliency branch, `audio=None` the audio encoder and the fusion block (Table 2);
    neither changes the names of the remaining parameters. `note` tells what the paper has different
    besides the network; two variants that differ in their notes only are equal.
    """

    name: str
    motion: str
    height: int
    width: int
    image: str | None = "convnext_t"
    # What motion is fused with: "features", "pyramid" (the same, and stride 8 for a motion encoder
    # that mixes them), or a saliency "map".
    image_output: str = "features"
    audio: str | None = "resnet18"
    audio_width: int = 64  # channels of the audio ResNet's first stage; the last has 8 times more
    fusion: str = "avfb"
    fusion_dim: int = 512
    decoder_width: int = 192
    mask_channels: int = 512  # of the temporally enhanced image saliency features
    decoder: str = "top_down"  # the paper's, or "compact"
    readout_channels: tuple[int, int] = (64, 32)  # after the readout's second and third stage
    head_norm: str = "layer"  # of the training heads: "layer", or "batch" for batches of 4 and more
    spacing: str | None = None  # seconds between a window's frames; None for 16 neighbours
    smoothing: str | None = None  # seconds in which a map's weight in later ones falls to 1/e
    stride: int = 1  # predict every how many frames, unless told otherwise
    cpu_batch: int = 1  # windows at once on a CPU; more pays only where layers are small
    note: str = field(default="", compare=False)

    @property
    def size(self) -> tuple[int, int]:
        """Input height and width in pixels."""
        return self.height, self.width


def _published(motion: str, height: int, width: int) -> Variant:
    return Variant(f"{motion}-{height}x{width}", motion, height, width)


def _ablation(label: str, **changes: Any) -> Variant:
    """A variant of the ablation studies, which are S3D at 224x224 throughout (section 4.5)."""
    return Variant(f"{label}-s3d-224x224", "s3d", 224, 224, **changes)


_PUBLISHED = (
    _published("mvitv2s", 224, 384),
    _published("mvitv2s", 224, 224),
    _published("s3d", 224, 384),
    _published("s3d", 224, 224),
    _published("x3dl", 224, 224),
    _published("slowfast4x16", 224, 224),
    _published("morphmlps", 224, 224),
    _published("uniformerb", 224, 224),
    _published("videoswins", 224, 224),
)

_IMAGE_AND_SOUND = (  # Table 2
    _ablation("base", image=None, audio=None),
    _ablation("v1", image=None),
    _ablation("v2", image="mobilenet_v2", audio=None),
    _ablation(
        "v3", image="mobilenet_v2", note="v4's network, trained without the alignment loss (λ = 0)"
    ),
    _ablation("v4", image="mobilenet_v2", note="the network of AVFB in Table 5"),
    _ablation("v5", note="the published s3d-224x224"),
    _ablation("v6", note="v5's network, image encoder from ImageNet, not trained on saliency"),
    _ablation("v7", image_output="map"),
)

_FUSIONS = (  # Table 5, in its order; AVFB is v4
    _ablation("bilinear-channel", image="mobilenet_v2", fusion="bilinear_channel"),
    _ablation("bilinear-space", image="mobilenet_v2", fusion="bilinear_space"),
    _ablation("avim", image="mobilenet_v2", fusion="avim"),
    _ablation("avim-cpc", image="mobilenet_v2", fusion="avim_cpc"),
)

# The default: the paper's three streams and fusion at a size for two CPU cores.
_SMALL = Variant(
    "small-224x384",
    "recurrent",
    224,
    384,
    image="mobilenet_v2",
    image_output="skips",
    audio_width=16,
    fusion_dim=128,
    decoder="compact",
    spacing="0.16",
    smoothing="0.12",
    stride=2,
    cpu_batch=4,
)

VARIANTS: dict[str, Variant] = {
    variant.name: variant for variant in (*_PUBLISHED, *_IMAGE_AND_SOUND, *_FUSIONS, _SMALL)
}
