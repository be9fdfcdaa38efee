"""The networks that can be built, as data: the variants that the paper evaluates."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """Everything that decides a network's shape; `models.build` turns it into a network.

    The defaults are those of the published networks (sections 3.2-3.5). `image=None` leaves out
    the image saliency branch, `audio=None` the audio encoder and the fusion block (Table 2);
    neither changes the names of the remaining parameters.
    """

    name: str
    motion: str
    height: int
    width: int
    image: str | None = "convnext_t"
    audio: str | None = "resnet18"
    audio_width: int = 64  # channels of the audio ResNet's first stage; the last has 8 times more
    fusion: str = "avfb"
    fusion_dim: int = 512
    decoder_width: int = 192
    mask_channels: int = 512  # of the temporally enhanced image saliency features
    readout_channels: tuple[int, int] = (64, 32)  # after the readout's second and third stage
    head_norm: str = "layer"  # of the training heads: "layer", or "batch" for batches of 4 and more

    @property
    def size(self) -> tuple[int, int]:
        """Input height and width in pixels."""
        return self.height, self.width


def _published(motion: str, height: int, width: int) -> Variant:
    return Variant(f"{motion}-{height}x{width}", motion, height, width)


VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
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
}
