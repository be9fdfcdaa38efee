"""The authors' release on GitHub: which of its files are the weights of a network.

The names of the files are not known beforehand; see `avsal.weights.names`. Whether the chosen file
really holds the wanted network is checked by its tensors when it is imported.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from avsal.errors import UsageError, WeightsError
from avsal.models.variants import VARIANTS
from avsal.weights.download import WebFile, refuse_offline
from avsal.weights.hub import one_line
from avsal.weights.names import (
    folds_in,
    is_archive,
    is_encoder,
    networks_in,
    sizes_in,
)
from avsal.weights.reading import read_metadata
from avsal.weights.registry import MSPI_PAGE, MSPI_RELEASE, WeightsRow

API_VARIABLE = "AVSAL_GITHUB_API"  # another server, for tests and mirrors
API = "https://api.github.com"
TIMEOUT = 8  # seconds
SUFFIXES = (".pt", ".pth", ".pt.tar", ".pth.tar", ".bin", ".ckpt", ".safetensors")
OK, NOT_FOUND, FORBIDDEN, TOO_MANY = 200, 404, 403, 429  # HTTP
BY_HAND = f"or download from {MSPI_PAGE} in a browser, then run: avsal weights import FILE.pt"


def release_files(row: WeightsRow) -> list[WebFile]:
    """Ask GitHub for the files of the release that a row's weights are from.

    Raises:
        WeightsError: no connection, no such release, no files in it, or asked too often.
    """
    repository, tag = MSPI_RELEASE
    api = (os.environ.get(API_VARIABLE) or API).rstrip("/")
    refuse_offline(api)
    address = f"{api}/repos/{repository}/releases/tags/{tag}"
    try:
        from huggingface_hub import get_session

        headers = {"Accept": "application/vnd.github+json"}
        answer = get_session().get(address, headers=headers, timeout=TIMEOUT)
        content = answer.json() if answer.status_code == OK else None
    except Exception as error:  # the Hub's client changes the library whose errors these are
        raise WeightsError(
            f"{row.name}: {api} cannot be reached ({one_line(error)}); try again, {BY_HAND}"
        ) from None
    if answer.status_code != OK:
        raise WeightsError(f"{row.name}: {_refusal(answer, repository, tag)}")
    files = _weight_files(content)
    if not files:
        what = f"{row.name}: the release {tag} of {repository} has no file of weights"
        if archives := ", ".join(_archives(content)):
            raise WeightsError(
                f"{what}, only archives, which avsal does not unpack ({archives}): download one "
                f"from {MSPI_PAGE}, unpack it, then run: avsal weights import FILE"
            )
        raise WeightsError(f"{what}; see {MSPI_PAGE}")
    return files


def _refusal(answer: Any, repository: str, tag: str) -> str:
    if answer.status_code == NOT_FOUND:
        return f"{repository} has no release {tag} on GitHub (any more); see {MSPI_PAGE}"
    if answer.status_code in (FORBIDDEN, TOO_MANY):
        reset = answer.headers.get("X-RateLimit-Reset", "")
        when = time.strftime("%H:%M", time.localtime(int(reset))) if reset.isdigit() else "later"
        return (
            "GitHub limits the requests per hour from one address; try again "
            f"{'at ' if reset.isdigit() else ''}{when}, {BY_HAND}"
        )
    return f"GitHub answers with error {answer.status_code}; try again later, {BY_HAND}"


def _assets(content: Any) -> list[Any]:
    assets = content.get("assets") if isinstance(content, dict) else None
    return assets if isinstance(assets, list) else []


def _archives(content: Any) -> list[str]:
    names = [str(asset.get("name")) for asset in _assets(content) if isinstance(asset, dict)]
    return [name for name in names if is_archive(name)]


def _weight_files(content: Any) -> list[WebFile]:
    """The files of a release, as GitHub's API describes it, that may be weights."""
    files = []
    for asset in _assets(content):
        try:
            name, url, size = str(asset["name"]), str(asset["browser_download_url"]), asset["size"]
            digest = str(asset.get("digest") or "")
        except (KeyError, TypeError, AttributeError):
            continue
        if name.lower().endswith(SUFFIXES) and url.startswith(("https://", "http://")):
            sha256 = digest.removeprefix("sha256:") if digest.startswith("sha256:") else None
            files.append(WebFile(url, name, int(size), sha256))
    return files


def is_here(path: Path, asset: str | None) -> bool:
    """Whether a file of the release was imported before, and can be read.

    Raises:
        UsageError: what is there was made from another file than `asset`.
    """
    if not path.is_file():
        return False
    try:
        source = read_metadata(path).get("source", "another file")
    except WeightsError:  # damaged: it is downloaded again
        return False
    if asset is not None and source != asset:
        raise UsageError(
            f"{path}: holds weights from {source}, not {asset}; add --force to replace it"
        )
    return True


def fitting_files(files: list[WebFile], row: WeightsRow, fold: int) -> list[WebFile]:
    """Find the files whose names fit a network and a fold best, ideally one.

    A file whose name does not mention the size or the fold may have any, unless another name
    mentions the right one. A file whose name does not mention a network is considered only if no
    other name does.
    """
    variant = VARIANTS[row.variant]
    files = [file for file in files if not is_encoder(file.name)] or files
    if any(networks_in(file.name) for file in files):
        files = [file for file in files if networks_in(file.name)]
    files = _narrowed(files, networks_in, variant.motion)
    files = _narrowed(files, sizes_in, f"{variant.height}x{variant.width}")
    if any("0" in folds_in(file.name) for file in files):
        return files  # they count from 0 or from 1: a person has to choose
    return _narrowed(files, folds_in, str(fold))


def _narrowed(
    files: list[WebFile], found_in: Callable[[str], set[str]], value: str
) -> list[WebFile]:
    exact = [file for file in files if found_in(file.name) == {value}]
    return exact or [f for f in files if not found_in(f.name) or value in found_in(f.name)]


def check_choice(file: WebFile, row: WeightsRow, fold: int | None, chosen_by_hand: bool) -> None:
    """Make sure before the download that a file's name does not contradict what was asked for.

    Args:
        fold: the fold that was asked for; None if none was.
        chosen_by_hand: a name that says nothing is then enough.

    Raises:
        UsageError: it names another network or fold, or does not name the fold.
    """
    networks, folds = networks_in(file.name), folds_in(file.name)
    motion = VARIANTS[row.variant].motion
    if networks and motion not in networks:
        raise UsageError(f"asset {file.name}: is a network with {', '.join(networks)} by its name")
    if fold is None or str(fold) in folds:
        return
    if folds:
        raise UsageError(f"asset {file.name}: is fold {', '.join(sorted(folds))} by its name")
    if not chosen_by_hand:
        raise UsageError(
            f"{row.name}: no file of the release says that it is fold {fold}; if you know that "
            f"{file.name} is, add --asset {shlex.quote(file.name)}, else omit --fold"
        )


def pick(files: list[WebFile], name: str) -> WebFile:
    """The file of a name.

    Raises:
        UsageError: there is none.
    """
    found = next((file for file in files if file.name == name), None)
    if found is None:
        names = ", ".join(file.name for file in files)
        raise UsageError(f"asset {name}: the release has {names}")
    return found
