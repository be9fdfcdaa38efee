"""Names of weights: those that avsal knows, and what the names of files say.

Authors name their files in many ways, so the names of files are read tolerantly.
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

HUB_REPO = "avsal/avsal"  # where the project publishes; AVSAL_HUB_REPO names another repository
MSPI_PAGE = "https://github.com/oraclefina/MSPI"
MSPI_RELEASE = ("oraclefina/MSPI", "v1.0.0")  # repository on GitHub and tag
UNSTATED = "unstated"
UNTRAINED = "untrained"  # the name of random weights
SUFFIX = ".safetensors"
FILE_SUFFIXES = (SUFFIX, ".pt", ".pth", ".tar", ".bin", ".ckpt")
FOLD = re.compile(r"(?P<name>.+)-fold(?P<fold>[123])")  # names that `avsal weights pull` gives
MODEL_CARD = "weights/README.md"


@dataclass(frozen=True)
class WeightsRow:
    """Weights that have a name.

    Attributes:
        name: what users type.
        variant: the network that they belong to, a key of `avsal.models.variants.VARIANTS`.
        file: name of the safetensors file, in the repository and in local folders alike.
        repo: Hub repository, owner/name.
        revision: branch, tag or commit of the repository.
        sha256: of the published file; None while nothing is published.
        licence: SPDX identifier, or "unstated".
        source: where the weights come from.
        released: whether they may be in the authors' release on GitHub.
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
            sha256="5e8fc0d3b594fee52080ace6cdf3f608414a4176235bed2af8d90d944f4a068f",
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
    """Find the row with this name, with or without its prefix, or with this variant."""
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
    """Find the variant that a variant's or a registry row's name means.

    Raises:
        UsageError: there is none.
    """
    if name in VARIANTS:
        return name
    if row := find_row(name):
        return row.variant
    raise unknown(f"model {name}: not", name, [*VARIANTS, *REGISTRY])


def unknown(what: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that nothing has, with the most similar name or all with weights."""
    short = {full.removeprefix(prefix): full for full in known for prefix in PREFIXES}
    if near := get_close_matches(name.lower(), short, 1):
        return UsageError(f"{what} a known name; did you mean {short[near[0]]}?")
    usable = [name for name in short.values() if name not in VARIANTS]
    return UsageError(f"{what} one of {', '.join(dict.fromkeys(usable))}")


# --- names of files -------------------------------------------------------------------------------

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
    """Whether a file is an archive by its name. PyTorch files may end in .pth.tar too."""
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
        other = f"the weights {row.name}" if row else "untrained weights"
        raise UsageError(f"name {name}: means {other} already; choose another --name")
