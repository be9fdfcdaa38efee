"""What the name of a file says about the weights in it, and under which name they are saved.

Authors name their files in many ways, so the names are read tolerantly.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from avsal.errors import UsageError
from avsal.weights.places import FILE_SUFFIXES, UNTRAINED
from avsal.weights.registry import find_row

DEFAULT_FOLD = 1
ARCHIVES = re.compile(r"(?<!\.pt)(?<!\.pth)\.tar$|\.(tar\.\w+|t[gx]z|zip|gz|bz2|xz|zst|7z|rar)$")
# Patterns for the motion encoders in file names.
NETWORKS = {
    "mvitv2s": r"mvit",
    "s3d": r"s3d",
    "x3dl": r"x3d",
    "slowfast4x16": r"slow[_-]?fast",
    "morphmlps": r"morph",
    "uniformerb": r"uni[_-]?former",
    "videoswins": r"swin",
}
# Pretrained encoders are named after the data that they were trained on.
ENCODERS = re.compile(r"k[2-7]00|kinetics|imagenet|in1k|in21k|vggsound|audioset")
SIDES = re.compile(r"(?<!\d)(224|384)(?:[x_,-](224|384))?(?!\d)")
FOLDS = re.compile(r"(?:fold|split|cv)[_. -]*0*(\d)(?!\d)|(?<![a-z0-9])f0*(\d)(?![a-z0-9])")
NUMBER_OF_FOLDS = re.compile(r"[_ -]?of[_ -]?\d+(?!\d)")  # as in split1_of_3
# A number at the end is a fold's where the name is a network's, but not that of an epoch or step.
LAST_NUMBER = re.compile(
    r"(?<!epoch)(?<!ep)(?<!step)(?<!iter)(?<!checkpoint)(?<!ckpt)[_ -](\d)(?=\.[a-z.]+$)"
)


def file_name(address: str) -> str:
    """The last part of a web address, or the name of a file itself."""
    path = urlsplit(address).path if "://" in address else address
    return PurePosixPath(unquote(path)).name


def is_archive(name: str) -> bool:
    """Whether a file is an archive by its name. PyTorch files may end in .pth.tar and are none."""
    return ARCHIVES.search(name.lower()) is not None


def is_encoder(name: str) -> bool:
    """Whether a file's name says that it holds a pretrained encoder, not a whole network."""
    return ENCODERS.search(name.lower()) is not None


def networks_in(name: str) -> set[str]:
    """The motion encoders in a file's name."""
    return {motion for motion, known in NETWORKS.items() if re.search(known, name.lower())}


def sizes_in(name: str) -> set[str]:
    """The input sizes in a file's name, "224x384" or "224x224"; one number is the larger side."""
    found = set()
    for first, second in SIDES.findall(name.lower()):
        sides = sorted(filter(None, (first, second)))
        found.add(f"224x{sides[-1]}")
    return found


def folds_in(name: str) -> set[str]:
    """The folds in a file's name: "2" for split2, fold-02, split2_of_3 or f2."""
    name = NUMBER_OF_FOLDS.sub("", name.lower())
    if folds := {number for match in FOLDS.findall(name) for number in match if number}:
        return folds
    return set(LAST_NUMBER.findall(name)) if networks_in(name) else set()


def name_for(network: str, file: str, fold: int | None = None) -> str:
    """The name under which a file is saved: the network's, and the fold if it is not the first.

    Args:
        fold: the fold that was asked for, which then always is in the name.
    """
    folds = folds_in(file)
    if fold is None and (len(folds) != 1 or folds == {str(DEFAULT_FOLD)}):
        return network
    return f"{network}-fold{fold or folds.pop()}"


def require_free(name: str) -> None:
    """Make sure that weights can be found by a name.

    Raises:
        UsageError: it is no plain name, or means other weights.
    """
    if not re.fullmatch(r"\w[\w.+-]{0,99}", name) or name.lower().endswith(FILE_SUFFIXES):
        raise UsageError(f"name {name}: give letters, digits, - and _ only, without a suffix")
    row = find_row(name)
    if name == UNTRAINED or (row is not None and (row.name != name or row.sha256 is not None)):
        other = f"the weights {row.name}" if row else "weights that nobody trained"
        raise UsageError(f"name {name}: means {other} already; choose another --name")
