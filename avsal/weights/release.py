"""The authors' release on GitHub: which of its files are the weights of a network.

Names of files are not known beforehand, so what they tell of network, input size and fold is read
tolerantly. Whether the chosen file really is the wanted network, the import tells by its tensors.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import Any

from avsal.errors import UsageError, WeightsError
from avsal.models.variants import VARIANTS
from avsal.weights.download import WebFile, refuse_offline
from avsal.weights.hub import one_line
from avsal.weights.registry import MSPI_PAGE, MSPI_RELEASE, WeightsRow

API_VARIABLE = "AVSAL_GITHUB_API"  # another server, for tests and mirrors
API = "https://api.github.com"
TIMEOUT = 8  # seconds
SUFFIXES = (".pt", ".pth", ".tar", ".bin", ".ckpt", ".safetensors", ".zip")
DEFAULT_FOLD = 1
OK, NOT_FOUND, FORBIDDEN, TOO_MANY = 200, 404, 403, 429  # HTTP
BY_HAND = f"or download from {MSPI_PAGE} in a browser, then run: avsal weights import FILE.pt"

# What file names call the motion encoders.
NETWORKS = {
    "mvitv2s": r"mvit",
    "s3d": r"s3d",
    "x3dl": r"x3d",
    "slowfast4x16": r"slow[_-]?fast",
    "morphmlps": r"morph",
    "uniformerb": r"uni[_-]?former",
    "videoswins": r"swin",
}
SIDES = re.compile(r"(?<!\d)(224|384)(?:[x_,-](224|384))?(?!\d)")
FOLDS = re.compile(
    r"(?:fold|split|cv)[_. -]?(\d)(?!\d)|(?<![a-z0-9])f(\d)(?![a-z0-9])|[_ -](\d)(?=\.[a-z.]+$)"
)


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
        raise WeightsError(
            f"{row.name}: the release {tag} of {repository} has no file of weights; see {MSPI_PAGE}"
        )
    return files


def _refusal(answer: Any, repository: str, tag: str) -> str:
    if answer.status_code == NOT_FOUND:
        return f"{repository} has no release {tag} on GitHub (any more); see {MSPI_PAGE}"
    if answer.status_code in (FORBIDDEN, TOO_MANY):
        reset = answer.headers.get("X-RateLimit-Reset", "")
        when = time.strftime("%H:%M", time.localtime(int(reset))) if reset.isdigit() else "later"
        return (
            "GitHub answers only so many requests an hour from one place; try again "
            f"{'at ' if reset.isdigit() else ''}{when}, {BY_HAND}"
        )
    return f"GitHub answers with error {answer.status_code}; try again later, {BY_HAND}"


def _weight_files(content: Any) -> list[WebFile]:
    """The files of a release, as GitHub's API describes it, that may be weights."""
    assets = content.get("assets") if isinstance(content, dict) else None
    files = []
    for asset in assets if isinstance(assets, list) else ():
        try:
            name, url, size = str(asset["name"]), str(asset["browser_download_url"]), asset["size"]
            digest = str(asset.get("digest") or "")
        except (KeyError, TypeError, AttributeError):
            continue
        if name.lower().endswith(SUFFIXES) and url.startswith(("https://", "http://")):
            sha256 = digest.removeprefix("sha256:") if digest.startswith("sha256:") else None
            files.append(WebFile(url, name, int(size), sha256))
    return files


def fitting_files(files: list[WebFile], row: WeightsRow, fold: int) -> list[WebFile]:
    """The files whose names fit a network and a fold best; one, where they tell enough.

    A name that says nothing about a property may have any, unless another name says the wanted one.
    """
    variant = VARIANTS[row.variant]
    files = _narrowed(files, _networks, variant.motion)
    files = _narrowed(files, _sizes, f"{variant.height}x{variant.width}")
    if any("0" in _folds(file.name) for file in files):
        return files  # they count from 0 or from 1: a person has to choose
    return _narrowed(files, _folds, str(fold))


def _narrowed(files: list[WebFile], told: Callable[[str], set[str]], wanted: str) -> list[WebFile]:
    exact = [file for file in files if told(file.name) == {wanted}]
    return exact or [file for file in files if not told(file.name) or wanted in told(file.name)]


def _networks(name: str) -> set[str]:
    return {motion for motion, known in NETWORKS.items() if re.search(known, name.lower())}


def _sizes(name: str) -> set[str]:
    """ "224x384" or "224x224"; a single number is the larger side."""
    found = set()
    for first, second in SIDES.findall(name.lower()):
        sides = sorted(filter(None, (first, second)))
        found.add(f"224x{sides[-1]}")
    return found


def _folds(name: str) -> set[str]:
    return {number for match in FOLDS.findall(name.lower()) for number in match if number}


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
