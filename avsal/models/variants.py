"""The networks that can be built: those that the paper evaluates, and the default."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Variant:
    """The settings of a network, from which `models.build` makes it.

    The defaults are those of the published networks (sections 3.2-3.5). `image=None` omits the
    image saliency branch, `audio=False` the audio encoder and the fusion block (Table 2); neither
    changes the names of the remaining parameters. Two variants that differ only in their notes are
    equal.

    Attributes:
        network: "mspi" for the paper's network, or "small" for the default, whose image encoder,
            motion stream and decoder differ.
        image_output: what motion is fused with, image "features" or a saliency "map".
        audio_width: channels of the audio ResNet's first stage; the last stage has 8 times as many.
        head_norm: normalisation of the training heads: "layer", or "batch" for 3 or more samples.
        frames: number of frames in a window.
        spacing: seconds between a window's frames; None for consecutive frames.
        smoothing: time constant of the temporal smoothing, seconds; None for no smoothing.
        smoothing_ahead: the same for later maps; None if later maps are not used.
        smoothing_live: time constant where later maps are unknown: live, and in the ONNX file.
        stride: predict every n-th frame by default.
        cpu_batch: windows per batch on a CPU; more than one is faster only with small layers.
        note: what differs in the paper apart from the network.
    """

    name: str
    motion: str
    height: int
    width: int
    network: str = "mspi"
    image: str | None = "convnext_t"
    image_output: str = "features"
    audio: bool = True
    audio_width: int = 64
    fusion: str = "avfb"
    fusion_dim: int = 512
    decoder_width: int = 192
    head_norm: str = "layer"
    frames: int = 16
    spacing: str | None = None
    smoothing: str | None = None
    smoothing_ahead: str | None = None
    smoothing_live: str | None = None
    stride: int = 1
    follows_shape: bool = False  # the input has the video's aspect ratio, and about this area
    halves: bool = False  # pictures of many times its size are halved before they are resized
    cpu_batch: int = 1
    note: str = field(default="", compare=False)

    @property
    def size(self) -> tuple[int, int]:
        """Input height and width in pixels."""
        return self.height, self.width


def _published(motion: str, height: int, width: int) -> Variant:
    return Variant(f"{motion}-{height}x{width}", motion, height, width)


def _ablation(label: str, **changes: Any) -> Variant:
    """Make a variant of the ablation studies, which all use S3D at 224x224 (section 4.5)."""
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
    _ablation("base", image=None, audio=False),
    _ablation("v1", image=None),
    _ablation("v2", image="mobilenet_v2", audio=False),
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
    network="small",
    image="mobilenet_v2",
    audio_width=16,
    fusion_dim=128,
    frames=4,
    spacing="0.16",
    smoothing="0.16",
    smoothing_ahead="0.08",
    smoothing_live="0.12",
    stride=2,
    follows_shape=True,
    halves=True,
    cpu_batch=4,
)

VARIANTS: dict[str, Variant] = {
    variant.name: variant for variant in (*_PUBLISHED, *_IMAGE_AND_SOUND, *_FUSIONS, _SMALL)
}
