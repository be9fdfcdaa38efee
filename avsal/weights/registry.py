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
