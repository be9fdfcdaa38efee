"""How other projects name the weights of our encoders, and how their Caffe2 pickles are read.

A rule is a pattern for a whole name and its replacement. The first rule that matches is applied; a
name that no rule matches is kept. Names that match a `drop` pattern belong to parts that our
encoders do not have, as the classifier, the final norm or the state of the optimiser.
"""

from __future__ import annotations

import mmap
import pickle
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avsal.errors import WeightsError
from avsal.weights.pickles import requests_of
from avsal.weights.reading import read_errors, require_weights
from avsal.weights.state import State

Rules = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Layout:
    """One project's names for one encoder's weights."""

    project: str
    rules: Rules = ()
    drop: tuple[str, ...] = ()

    def rename(self, name: str) -> str | None:
        """Translate an upstream name; None if our encoder has no such weights."""
        if any(re.fullmatch(pattern, name) for pattern in self.drop):
            return None
        for pattern, ours in self.rules:
            if match := re.fullmatch(pattern, name):
                return match.expand(ours)
        return name


# The whole network of https://github.com/kylemin/S3D is one sequence; the gaps are poolings.
S3D_RULES: Rules = tuple(
    (rf"base\.{first + block}\.(.+)", rf"base{stage}.{block}.\1")
    for stage, first, blocks in (
        *((1, 0, (0, 2, 3)), (2, 5, range(2))),
        *((3, 8, range(5)), (4, 14, range(2))),
    )
    for block in blocks
)

# In Caffe2, the last part of a name is the role of the tensor.
CAFFE2_ROLES = {
    r"_w": "weight",
    r"_b": "bias",
    r"_bn_s": "weight",
    r"_bn_b": "bias",
    r"_bn_rm": "running_mean",
    r"_bn_riv": "running_var",
}
CAFFE2_MODULES = (
    # pattern, our convolution, our norm
    (r"conv1", r"s1.pathway0_stem.conv", None),
    (r"t_conv1", r"s1.pathway1_stem.conv", None),
    (r"res_conv1", None, r"s1.pathway0_stem.bn"),
    (r"t_res_conv1", None, r"s1.pathway1_stem.bn"),
    (r"t_pool1_subsample", r"s1_fuse.conv_f2s", r"s1_fuse.bn"),
    (r"t_res(\d)_\d+_branch2c_bn_subsample", r"s\1_fuse.conv_f2s", r"s\1_fuse.bn"),
    *(
        (
            prefix + name,
            rf"s\1.pathway{pathway}_res\2.{ours}",
            rf"s\1.pathway{pathway}_res\2.{ours}_bn",
        )
        for pathway, prefix in enumerate(("", "t_"))
        for name, ours in (
            (r"res(\d)_(\d+)_branch1", "branch1"),
            (r"res(\d)_(\d+)_branch2([abc])", r"branch2.\3"),
        )
    ),
)
CAFFE2_RULES: Rules = tuple(
    (module + role, f"{ours}.{our_role}")
    for module, conv, norm in CAFFE2_MODULES
    for role, our_role in CAFFE2_ROLES.items()
    if (ours := norm if "_bn_" in role else conv)
)

PYSLOWFAST = Layout("facebookresearch/SlowFast", drop=(r"head\..+",))
# The torchvision names of ConvNeXt: features.0 is the stem, then stages and downsamplings in turn.
CONVNEXT_TORCHVISION: Rules = (
    (r"features\.0\.([01])\.(.+)", r"stem_\1.\2"),
    *(
        rule
        for stage in range(4)
        for rule in (
            (rf"features\.{2 * stage}\.([01])\.(.+)", rf"stages_{stage}.downsample.\1.\2"),
            (rf"features\.{2 * stage + 1}\.(\d+)\.layer_scale", rf"stages_{stage}.blocks.\1.gamma"),
            *(
                (
                    rf"features\.{2 * stage + 1}\.(\d+)\.block\.{index}\.(.+)",
                    rf"stages_{stage}.blocks.\1.{ours}.\2",
                )
                for index, ours in ((0, "conv_dw"), (2, "norm"), (3, "mlp.fc1"), (5, "mlp.fc2"))
            ),
        )
    ),
)
# torchvision numbers the blocks of MobileNet-V2 from first to last; we number them in each stage.
MOBILENET_DEPTHS = (1, 2, 3, 4, 3, 3, 1)
MOBILENET_BLOCKS = tuple(
    f"blocks.{stage}.{block}"
    for stage, depth in enumerate(MOBILENET_DEPTHS)
    for block in range(depth)
)
MOBILENET_FIRST = (("0.0", "conv_dw"), ("0.1", "bn1"), ("1", "conv_pw"), ("2", "bn2"))
MOBILENET_OTHER = (
    *(("0.0", "conv_pw"), ("0.1", "bn1"), ("1.0", "conv_dw"), ("1.1", "bn2")),
    *(("2", "conv_pwl"), ("3", "bn3")),
)
MOBILENET_TORCHVISION: Rules = (
    (r"features\.0\.0\.(.+)", r"conv_stem.\1"),
    (r"features\.0\.1\.(.+)", r"bn1.\1"),
    *(
        (rf"features\.{index}\.conv\.{re.escape(theirs)}\.(.+)", rf"{ours}.{layer}.\1")
        for index, ours in enumerate(MOBILENET_BLOCKS, start=1)
        for theirs, layer in (MOBILENET_FIRST if index == 1 else MOBILENET_OTHER)
    ),
)
# In UNISAL's encoder, a block is one flat sequence in which the activations are numbered too.
UNISAL_FIRST = ("conv_dw", "bn1", None, "conv_pw", "bn2")
UNISAL_OTHER = ("conv_pw", "bn1", None, "conv_dw", "bn2", None, "conv_pwl", "bn3")
MOBILENET_UNISAL: Rules = (
    (r"cnn\.features\.0\.0\.(.+)", r"conv_stem.\1"),
    (r"cnn\.features\.0\.1\.(.+)", r"bn1.\1"),
    *(
        (rf"cnn\.features\.{index}\.conv\.{number}\.(.+)", rf"{ours}.{layer}.\1")
        for index, ours in enumerate(MOBILENET_BLOCKS, start=1)
        for number, layer in enumerate(UNISAL_FIRST if index == 1 else UNISAL_OTHER)
        if layer
    ),
)

LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "mvitv2s": (PYSLOWFAST,),
    "x3dl": (PYSLOWFAST,),
    "slowfast4x16": (
        PYSLOWFAST,
        Layout(
            "facebookresearch/SlowFast, Caffe2",
            CAFFE2_RULES,
            (r"pred_.+", r".+_momentum", r"lr", r"model_iter"),
        ),
    ),
    "s3d": (Layout("kylemin/S3D", S3D_RULES, (r"fc\..+",)),),
    "uniformerb": (Layout("Sense-X/UniFormer"),),
    "videoswins": (
        Layout(
            "SwinTransformer/Video-Swin-Transformer",
            ((r"backbone\.(.+)", r"\1"),),
            (r"cls_head\..+", r"head\..+", r"(layers\.\d\.blocks\.\d+\.)?attn_mask"),
        ),
    ),
    "morphmlps": (Layout("MTLab/MorphMLP", drop=(r"head\..+", r"norm\..+")),),
    "convnext_t": (
        Layout(
            "timm",
            ((r"(stem|stages)\.(\d)\.(.+)", r"\1_\2.\3"),),
            (r"head\..+", r"norm_pre\..+"),
        ),
        Layout("torchvision", CONVNEXT_TORCHVISION, (r"classifier\..+",)),
        Layout(
            "facebookresearch/ConvNeXt",
            (
                (r"downsample_layers\.0\.([01])\.(.+)", r"stem_\1.\2"),
                (r"downsample_layers\.(\d)\.([01])\.(.+)", r"stages_\1.downsample.\2.\3"),
                (r"stages\.(\d)\.(\d)\.dwconv\.(.+)", r"stages_\1.blocks.\2.conv_dw.\3"),
                (r"stages\.(\d)\.(\d)\.pwconv([12])\.(.+)", r"stages_\1.blocks.\2.mlp.fc\3.\4"),
                (r"stages\.(\d)\.(\d)\.(.+)", r"stages_\1.blocks.\2.\3"),
            ),
            (r"head\..+", r"norm\..+"),
        ),
    ),
    "mobilenet_v2": (
        Layout("timm", drop=(r"conv_head\..+", r"bn2\..+", r"classifier\..+")),
        Layout(
            "torchvision",
            MOBILENET_TORCHVISION,
            (r"features\.18\..+", r"classifier\..+"),
        ),
        # All other names belong to its decoder and its recurrent network.
        Layout("rdroste/unisal", MOBILENET_UNISAL, (r"cnn\.features\.18\..+", r"(?!cnn\.).+")),
    ),
    "resnet18": (
        Layout("hche11/VGGSound", ((r"audnet\.(.+)", r"\1"),), (r"(audnet\.)?fc\w*\..+",)),
    ),
}


# --- Caffe2 pickles -------------------------------------------------------------------------------


class _NumberType:
    """Stand-in for `numpy.dtype` that allows plain numbers only."""

    def __init__(self, name: str, *_options: bool) -> None:
        self.dtype = np.dtype(str(name))
        if self.dtype.kind not in "fiub":
            raise pickle.UnpicklingError(f"values of type {self.dtype}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stand-in for `numpy.ndarray` that stores what a pickle says about an array.

    numpy itself would trust whatever a file says about the array's memory.
    """

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, self.shape, number_type, self.by_columns, self.data = state
        self.dtype: np.dtype = number_type.dtype

    def values(self) -> np.ndarray:
        """Return the array as float32; raises ValueError if the data does not fit its shape."""
        data = self.data.encode("latin1") if isinstance(self.data, str) else self.data
        flat = np.frombuffer(data, self.dtype).astype(np.float32)
        return flat.reshape(self.shape, order="F" if self.by_columns else "C")


def _reconstruct(_kind: Any, _shape: Any, _number_type: Any) -> _Array:
    return _Array()


def _to_bytes(text: str, encoding: str) -> Any:
    """Stand-in for `_codecs.encode`, which Python 3 uses for bytes in Python 2's pickle format."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes encoded as {encoding}")
    return text  # `_Array` accepts both


# All globals that a pickled array of numbers needs; any other global is refused.
ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
ALLOWED = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _NumberType,
    ("_codecs", "encode"): _to_bytes,
    **{(module, "_reconstruct"): _reconstruct for module in ARRAY_MODULES},
}


class _ArrayUnpickler(pickle.Unpickler):
    """Loads arrays of numbers and plain containers only."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name}") from None


def read_blobs(path: Path) -> State:
    """Read the arrays of a Caffe2 checkpoint, {"blobs": {name: array}}, as tensors.

    Raises:
        WeightsError: the file cannot be read, is something else, or contains other objects.
    """
    require_weights(path)
    with read_errors(path):
        try:
            return _tensors(_unpickled(path), path)
        except (WeightsError, OSError):
            raise
        except pickle.UnpicklingError as error:
            raise WeightsError(
                f"{path}: is not a pickle of plain arrays ({error}); other pickles can run code, "
                "so it is refused; use the project's .pyth file"
            ) from None
        except Exception:  # a damaged pickle may raise anything
            raise WeightsError(f"{path}: damaged pickle; download it again") from None


def _unpickled(path: Path) -> Any:
    # A file would allocate any length that the pickle declares; a mapped file does not.
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        deque(requests_of(content), maxlen=0)  # raises if the pickle would allocate too much
        content.seek(0)
        return _ArrayUnpickler(content, encoding="latin1").load()


def _tensors(content: Any, path: Path) -> State:
    blobs = content.get("blobs") if isinstance(content, Mapping) else None
    if not isinstance(blobs, Mapping):
        raise WeightsError(f"{path}: contains no Caffe2 blobs; use the project's .pyth file")
    arrays = {str(name): array for name, array in blobs.items() if isinstance(array, _Array)}
    if sum(len(array.data) for array in arrays.values()) > path.stat().st_size:
        raise WeightsError(f"{path}: its arrays are larger than the file; download it again")
    return {
        name: torch.from_numpy(array.values())
        for name, array in arrays.items()
        if array.dtype.kind == "f"
    }
