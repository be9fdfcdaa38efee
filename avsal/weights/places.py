"""Where weights are: shipped with avsal, imported, in the cache of the Hub, or on the Hub."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from avsal.errors import WeightsError
from avsal.weights.registry import DEFAULT, REGISTRY, WeightsRow, find_row, unknown

SUFFIX = ".safetensors"
PACKAGE = Path(__file__).parent  # a wheel has the shipped weights here,
CHECKOUT = PACKAGE.parents[1] / "weights"  # a checkout of the repository there
GRAPHS = "avsal-small.graphs.zip"  # the default network for ONNX Runtime, without weights
UNTRAINED = "untrained"
FOLD = re.compile(r"(?P<name>.+)-fold(?P<fold>[123])")  # names that `avsal weights pull` gives
FILE_SUFFIXES = (SUFFIX, ".pt", ".pth", ".tar", ".bin", ".ckpt")


@dataclass(frozen=True)
class Found:
    """Weights that are on this machine; `where` is "shipped", "imported" or "cached"."""

    path: Path
    where: str


def user_folder() -> Path:
    """The folder of imported weights: AVSAL_HOME/weights, else in the XDG data folder."""
    if home := os.environ.get("AVSAL_HOME"):
        return expanded(home) / "weights"
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return expanded(data) / "avsal" / "weights"


def expanded(text: str) -> Path:
    """Put the home folder in place of a leading ~: the root for a user who has none, as in
    containers that run under any number."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path("/", *Path(text).parts[1:])


def hub_cache() -> Path:
    """The folder in which huggingface_hub keeps what it downloads."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def shipped(file: str) -> Path | None:
    """A file that comes with avsal; None where it does not."""
    paths = (PACKAGE / file, CHECKOUT / file)
    return next((path for path in paths if path.is_file()), None)


def locate(row: WeightsRow, revision: str | None = None) -> Found | None:
    """Find weights on this machine, without asking the Hub.

    Shipped weights come before imported and cached ones; a `revision` is one of the Hub's, so it
    is looked for in the cache only.
    """
    if revision is None:
        if path := shipped(row.file):
            return Found(path, "shipped")
        if (path := user_folder() / row.file).is_file():
            return Found(path, "imported")
    from avsal.weights import hub

    path = hub.cached(row, revision)
    return Found(path, "cached") if path else None


def present() -> list[str]:
    """Names of the weights that are on this machine."""
    rows = [row.name for row in REGISTRY.values() if locate(row)]
    return [*rows, *other_imports()]


def other_imports() -> list[str]:
    """Names of imported weights that the registry does not know."""
    known = {row.file for row in REGISTRY.values()}
    files = sorted(user_folder().glob(f"*{SUFFIX}"))
    return [path.stem for path in files if path.name not in known]


def resolve(
    name_or_path: str | os.PathLike[str] | None = None,
    offline: bool = False,
    revision: str | None = None,
) -> Path:
    """Find weights by path or name: a file, then shipped, imported, cached and the Hub's weights.

    Args:
        name_or_path: a file, a name in the registry or of imported weights; None is the default.
        offline: never ask the Hub.
        revision: branch, tag or commit of the Hub repository.

    Raises:
        WeightsError: there is no such file, or the Hub does not give it.
        UsageError: no weights have that name.
    """
    text = os.fspath(name_or_path or DEFAULT)
    path = expanded(text)
    if path.is_file():
        return path
    if len(path.parts) > 1 or path.suffix in FILE_SUFFIXES:
        raise WeightsError(f"{text}: {'is a folder' if path.is_dir() else 'no such file'}")
    row = find_row(text)
    if row is None:
        return require_imported(text)
    found = locate(row, revision)
    if found and found.where != "cached":
        return found.path
    from avsal.weights import hub

    return hub.pull(row, offline=offline, revision=revision)


def imported(name: str) -> Path | None:
    """Find weights that were imported under a name which the registry does not know."""
    path = user_folder() / f"{name}{SUFFIX}"
    return path if find_row(name) is None and path.is_file() else None


def require_imported(name: str) -> Path:
    """Like `imported`.

    Raises:
        WeightsError: the name is one that `avsal weights pull` gives, but it is not here.
        UsageError: no weights have that name.
    """
    if path := imported(name):
        return path
    if (match := FOLD.fullmatch(name)) and (row := find_row(match["name"])) and row.released:
        command = f"avsal weights pull {row.name} --fold {match['fold']}"
        raise WeightsError(f"{name}: not on this machine; run once: {command}")
    raise unknown(f"weights {name}: neither a file nor", name, [*REGISTRY, *other_imports()])


def shadowed() -> list[Path]:
    """Imported files under a name that means the weights that avsal ships, so never used."""
    files = [user_folder() / row.file for row in REGISTRY.values() if row.sha256]
    return [path for path in files if path.is_file()]
