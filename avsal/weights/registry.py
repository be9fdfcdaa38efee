"""The weights that avsal knows by name, and what file names say about weights.

Authors name their files in many ways, so file names are parsed tolerantly.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from avsal.errors import UsageError
from avsal.models.variants import VARIANTS

HUB_REPO = "avsal/avsal"  # the project's repository; AVSAL_HUB_REPO names another one
MSPI_PAGE = "https://github.com/oraclefina/MSPI"
MSPI_RELEASE = ("oraclefina/MSPI", "v1.0.0")  # repository on GitHub and tag
UNSTATED = "unstated"
UNTRAINED = "untrained"  # the name of random weights
SUFFIX = ".safetensors"
FILE_SUFFIXES = (SUFFIX, ".pt", ".pth", ".tar", ".bin", ".ckpt")
FOLD = re.compile(r"(?P<name>.+)-fold(?P<fold>[123])")  # a name given by `avsal weights pull`
MODEL_CARD = "weights/README.md"


@dataclass(frozen=True)
class WeightsRow:
    """Named weights.

    Attributes:
        name: the name that users type.
        variant: the network, a key of `avsal.models.variants.VARIANTS`.
        file: name of the safetensors file, in the repository and in local folders.
        repo: Hub repository, owner/name.
        revision: branch, tag or commit of the repository.
        sha256: checksum of the published file; None while nothing is published.
        licence: SPDX identifier, or "unstated".
        source: where the weights come from.
        released: whether the authors' release on GitHub may contain them.
    """

    name: str
    variant: str
    file: str
    repo: str = HUB_REPO
    revision: str = "main"
    sha256: str | None = None
    licence: str = UNSTATED
    source: str = MSPI_PAGE
    released: bool = False


def _mspi(name: str, variant: str) -> WeightsRow:
    return WeightsRow(name, variant, f"{name}.safetensors", released=True)


REGISTRY: dict[str, WeightsRow] = {
    row.name: row
    for row in (
        WeightsRow(
            "avsal-small",
            "small-224x384",
            "avsal-small.safetensors",
            sha256="244f0f638d967c7a7365c5e252084d2c47a9677a9d808c5c001ca9b301d983a6",
            licence="Apache-2.0",
            source=MODEL_CARD,
        ),
        _mspi("mspi-mvitv2s", "mvitv2s-224x384"),
        _mspi("mspi-mvitv2s-224", "mvitv2s-224x224"),
        _mspi("mspi-s3d", "s3d-224x384"),
        _mspi("mspi-s3d-224", "s3d-224x224"),
        _mspi("mspi-x3dl", "x3dl-224x224"),
        _mspi("mspi-slowfast4x16", "slowfast4x16-224x224"),
        _mspi("mspi-morphmlps", "morphmlps-224x224"),
        _mspi("mspi-uniformerb", "uniformerb-224x224"),
        _mspi("mspi-videoswins", "videoswins-224x224"),
    )
}
DEFAULT = "avsal-small"
PREFIXES = ("", "mspi-", "avsal-")


def find_row(name: str) -> WeightsRow | None:
    """Find the row with this name (its prefix is optional) or this variant."""
    names = [prefix + name for prefix in PREFIXES]
    return next(
        (row for row in REGISTRY.values() if row.name in names or row.variant == name), None
    )


def get_row(name: str) -> WeightsRow:
    """Like `find_row`.

    Raises:
        UsageError: no row has that name.
    """
    row = find_row(name)
    if row is None:
        raise unknown(f"weights {name}: neither a file nor", name, REGISTRY)
    return row


def resolve_variant(name: str) -> str:
    """Return the variant for the name of a variant or of a registry row.

    Raises:
        UsageError: the name is unknown.
    """
    if name in VARIANTS:
        return name
    if row := find_row(name):
        return row.variant
    raise unknown(f"model {name}: not", name, [*VARIANTS, *REGISTRY])


def unknown(what: str, name: str, known: Iterable[str]) -> UsageError:
    """Make the error for an unknown name: it suggests the closest name, or lists all weights."""
    short = {full.removeprefix(prefix): full for full in known for prefix in PREFIXES}
    if near := get_close_matches(name.lower(), short, 1):
        return UsageError(f"{what} a known name; did you mean {short[near[0]]}?")
    usable = [name for name in short.values() if name not in VARIANTS]
    return UsageError(f"{what} one of {', '.join(dict.fromkeys(usable))}")


# --- file names -----------------------------------------------------------------------------------

DEFAULT_FOLD = 1
ARCHIVES = re.compile(r"(?<!\.pt)(?<!\.pth)\.tar$|\.(tar\.\w+|t[gx]z|zip|gz|bz2|xz|zst|7z|rar)$")
# Motion encoders and the patterns by which file names mention them.
NETWORKS = {
    "mvitv2s": r"mvit",
    "s3d": r"s3d",
    "x3dl": r"x3d",
    "slowfast4x16": r"slow[_-]?fast",
    "morphmlps": r"morph",
    "uniformerb": r"uni[_-]?former",
    "videoswins": r"swin",
}
# Files of pretrained encoders are named after their training data.
ENCODERS = re.compile(r"k[2-7]00|kinetics|imagenet|in1k|in21k|vggsound|audioset")
SIDES = re.compile(r"(?<!\d)(224|384)(?:[x_,-](224|384))?(?!\d)")
FOLDS = re.compile(r"(?:fold|split|cv)[_. -]*0*(\d)(?!\d)|(?<![a-z0-9])f0*(\d)(?![a-z0-9])")
NUMBER_OF_FOLDS = re.compile(r"[_ -]?of[_ -]?\d+(?!\d)")  # as in split1_of_3
# After a network's name, a number at the end is a fold, unless it counts epochs or steps.
LAST_NUMBER = re.compile(
    r"(?<!epoch)(?<!ep)(?<!step)(?<!iter)(?<!checkpoint)(?<!ckpt)[_ -](\d)(?=\.[a-z.]+$)"
)


def file_name(address: str) -> str:
    """Return the last part of a path or of a web address."""
    path = urlsplit(address).path if "://" in address else address
    return PurePosixPath(unquote(path)).name


def is_archive(name: str) -> bool:
    """Tell by its name whether a file is an archive; .pth.tar is a suffix of PyTorch files."""
    return ARCHIVES.search(name.lower()) is not None


def is_encoder(name: str) -> bool:
    """Tell by its name whether a file contains a pretrained encoder, not a whole network."""
    return ENCODERS.search(name.lower()) is not None


def networks_in(name: str) -> set[str]:
    """Return the motion encoders that a file name mentions."""
    return {motion for motion, known in NETWORKS.items() if re.search(known, name.lower())}


def sizes_in(name: str) -> set[str]:
    """Return the input sizes in a file name, as "224x384". One number is the larger side."""
    found = set()
    for first, second in SIDES.findall(name.lower()):
        sides = sorted(filter(None, (first, second)))
        found.add(f"224x{sides[-1]}")
    return found


def folds_in(name: str) -> set[str]:
    """Return the folds in a file name: "2" for split2, fold-02, split2_of_3 or f2."""
    name = NUMBER_OF_FOLDS.sub("", name.lower())
    if folds := {number for match in FOLDS.findall(name) for number in match if number}:
        return folds
    return set(LAST_NUMBER.findall(name)) if networks_in(name) else set()


def name_for(network: str, file: str, fold: int | None = None) -> str:
    """Return the name under which weights are saved: the network, plus any fold but the first.

    Args:
        fold: the fold that was asked for; it is then always part of the name.
    """
    folds = folds_in(file)
    if fold is None and (len(folds) != 1 or folds == {str(DEFAULT_FOLD)}):
        return network
    return f"{network}-fold{fold or folds.pop()}"


def require_free(name: str) -> None:
    """Check that a name is free to be given to weights.

    Raises:
        UsageError: it is not a plain name, or already means other weights.
    """
    if not re.fullmatch(r"\w[\w.+-]{0,99}", name) or name.lower().endswith(FILE_SUFFIXES):
        raise UsageError(f"name {name}: use only letters, digits, - and _, without a suffix")
    row = find_row(name)
    if name == UNTRAINED or (row is not None and (row.name != name or row.sha256 is not None)):
        other = f"the weights {row.name}" if row else "untrained weights"
        raise UsageError(f"name {name}: already means {other}; choose another --name")
