"""Downloads from the web that resume after a broken connection, and the authors' GitHub release.

While a process downloads, its partial file has a name that no other process uses. When the download
stops, the partial file is renamed to a common name; the next download takes it over by renaming it
again. Two downloads of one address at the same time therefore never write to the same file.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from avsal import atomic
from avsal.errors import AvsalError, UsageError, WeightsError
from avsal.models.variants import VARIANTS
from avsal.weights.places import one_line, user_folder
from avsal.weights.reading import START, read_metadata, refuse_foreign, sha256_of
from avsal.weights.registry import (
    MSPI_PAGE,
    MSPI_RELEASE,
    WeightsRow,
    folds_in,
    is_archive,
    is_encoder,
    networks_in,
    sizes_in,
)

LARGEST = 8 << 30  # bytes; no weights are larger, but a server could send data for ever
CHUNK = 1 << 18  # bytes
TIMEOUT = 15  # seconds without a response or another byte
TRIES = 4  # attempts in a row that bring no further byte
PAUSE = 0.5  # seconds before the second attempt; doubled before each further one
LONGEST_TAG = 150  # characters of an ETag that may be part of a file name

T = TypeVar("T")
# Called with the number of bytes received, and the size of the whole file if it is known.
OnBytes = Callable[[int, int | None], None]


@dataclass(frozen=True)
class WebFile:
    """A file at a web address.

    Attributes:
        size: bytes; None if unknown.
        sha256: checksum of the content; None if it is not published.
    """

    url: str
    name: str
    size: int | None = None
    sha256: str | None = None


@dataclass
class _Part:
    """A partial file, under a name that only this process uses.

    Attributes:
        tag: ETag of the version that the bytes belong to; "" if the server sent none.
    """

    path: Path
    tag: str = ""

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    def clear(self) -> None:
        self.path.write_bytes(b"")
        self.tag = ""

    def resumable(self, file: WebFile) -> bool:
        """Whether the remaining bytes can be added without mixing two versions of the file."""
        strong = self.tag.startswith('"') and len(quote(self.tag, safe="")) <= LONGEST_TAG
        return self.size > 0 and (strong or file.sha256 is not None)


def use_download(
    file: WebFile, use: Callable[[Path], T], on_bytes: OnBytes = lambda _here, _all: None
) -> T:
    """Download a file, or what is missing of it, and return `use(path)`.

    The file is removed when `use` succeeds or raises WeightsError. After any other error it is kept
    for the next call, if the download can be resumed safely.

    Raises:
        WeightsError: no connection, no such file, or unexpected content.
        OutputError: the file cannot be written.
        AvsalError: whatever `use` raises, with the address instead of the path.
    """
    refuse_offline(file.url)
    with _own_part(file) as part:
        with atomic.write_errors(part.path.parent):
            _receive_all(file, part, on_bytes)
        _check(file, part)
        try:
            result = use(part.path)
        except AvsalError as error:
            if isinstance(error, WeightsError):
                part.clear()
            raise type(error)(str(error).replace(str(part.path), file.url)) from None
        part.clear()
        return result


def refuse_offline(url: str) -> None:
    """Raise WeightsError if HF_HUB_OFFLINE forbids requests."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise WeightsError(f"{url}: not downloaded, because HF_HUB_OFFLINE is set; unset it")


@contextmanager
def _own_part(file: WebFile) -> Iterator[_Part]:
    """Take over the partial file of an earlier call, and leave one that a later call can resume.

    `atomic.prepare_folder` removes the partial files of killed processes.
    """
    version = f"{file.url} {file.size} {file.sha256}"
    key = hashlib.sha256(version.encode()).hexdigest()[:16]
    folder = user_folder() / "downloads"
    with atomic.write_errors(folder):
        atomic.prepare_folder(folder)
        part = _taken_over(folder, key)
    try:
        yield part
    finally:
        if part.resumable(file):
            tag = quote(part.tag, safe="")
            part.path.replace(folder / f"{key}.{tag if len(tag) <= LONGEST_TAG else ''}.part")
        else:
            part.path.unlink(missing_ok=True)


def _taken_over(folder: Path, key: str) -> _Part:
    part = _Part(atomic.partial_path(folder / f"{key}.part"))
    for left in sorted(folder.glob(f"{key}.*.part")):
        if part.path.exists():
            left.unlink(missing_ok=True)  # one partial file is enough
            continue
        try:
            left.rename(part.path)  # succeeds in one process only
        except FileNotFoundError:
            continue
        part.tag = unquote(left.name.removeprefix(f"{key}.").removesuffix(".part"))
    part.path.touch()
    return part


def _receive_all(file: WebFile, part: _Part, on_bytes: OnBytes) -> None:
    """Retry until the file is complete, or until several attempts in a row bring no bytes."""
    failures = 0
    while failures < TRIES:
        before = part.size
        try:
            if _receive(file, part, on_bytes):
                return
            cause = "the server sent less than it announced"
        except (AvsalError, OSError):
            raise
        except Exception as error:  # the HTTP library depends on the version of the Hub's client
            cause = one_line(error)
        failures = failures + 1 if part.size <= before else 1
        if failures < TRIES:
            time.sleep(PAUSE * 2 ** (failures - 1))
    remedy = "try again"
    if part.resumable(file):
        remedy = f"{part.size / 1e6:.1f} MB are kept, run the same command again to resume"
    raise WeightsError(f"{file.url}: cannot be downloaded ({cause}); {remedy}")


def _receive(file: WebFile, part: _Part, on_bytes: OnBytes) -> bool:
    """Request the missing bytes once, and return whether the file is complete."""
    from huggingface_hub import get_session

    here = part.size
    if file.size is not None and here == file.size:
        return True
    headers = {"Accept-Encoding": "identity", **_resuming(file, part)}
    with get_session().stream("GET", file.url, headers=headers, timeout=TIMEOUT) as answer:
        content_range = answer.headers.get("Content-Range", "")
        if answer.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            if here and part.tag and content_range == f"bytes */{here}":
                return True  # nothing is missing
            part.clear()  # the bytes are not from the current version
            return False
        if answer.status_code not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            raise WeightsError(f"{file.url}: {_refusal(answer)}")
        tag = answer.headers.get("ETag", "")
        if answer.status_code == HTTPStatus.PARTIAL_CONTENT and not (
            content_range.startswith(f"bytes {here}-") and (not tag or tag == part.tag)
        ):
            part.clear()  # another version, or not the range that was requested
            return False
        if answer.status_code == HTTPStatus.OK:
            part.clear()
            part.tag = tag
        length = answer.headers.get("Content-Length", "")
        total = file.size or (part.size + int(length) if length.isdigit() else None)
        _write(answer, file, part, total, on_bytes)
    return total is None or part.size == total


def _resuming(file: WebFile, part: _Part) -> dict[str, str]:
    """Make the headers that request the missing bytes, if resuming is safe."""
    if not part.resumable(file):
        return {}
    headers = {"Range": f"bytes={part.size}-"}
    return headers | ({"If-Range": part.tag} if part.tag.startswith('"') else {})


def _write(answer: Any, file: WebFile, part: _Part, total: int | None, on_bytes: OnBytes) -> None:
    """Append what the server sends; stop at once if it cannot be weights."""
    here = part.size
    with part.path.open("ab") as target:
        for chunk in answer.iter_bytes(CHUNK):
            if here == 0:
                refuse_foreign(chunk[:START], file.url)
            here += target.write(chunk)
            if here > LARGEST:
                part.clear()
                raise WeightsError(f"{file.url}: larger than {LARGEST >> 30} GB, so not weights")
            on_bytes(here, total)


def _refusal(answer: Any) -> str:
    by_hand = "download it in a browser, then avsal weights import FILE"
    reasons = {
        401: f"the server requires a login; {by_hand}",
        403: f"the server denies access; {by_hand}",
        404: "there is no such file; check the address",
        429: "the server received too many requests; try again later",
    }
    status = answer.status_code
    return reasons.get(status, f"the server responded with error {status}; try again later")


def _check(file: WebFile, part: _Part) -> None:
    """Check the size and sha256 of a complete file; a wrong one is removed."""
    if file.size is not None and part.size != file.size:
        size = part.size
        part.clear()
        raise WeightsError(f"{file.url}: {size} bytes, not {file.size}; it was removed, try again")
    if file.sha256 and (digest := sha256_of(part.path)) != file.sha256:
        part.clear()
        raise WeightsError(
            f"{file.url}: the sha256 is {digest[:12]}..., not {file.sha256[:12]}...; it was "
            "removed, try again"
        )


# --- the authors' release on GitHub ---------------------------------------------------------------

API_VARIABLE = "AVSAL_GITHUB_API"  # names another server, for tests and mirrors
API = "https://api.github.com"
API_TIMEOUT = 8  # seconds
SUFFIXES = (".pt", ".pth", ".pt.tar", ".pth.tar", ".bin", ".ckpt", ".safetensors")
BY_HAND = f"or download from {MSPI_PAGE} in a browser, then run: avsal weights import FILE.pt"


def release_files(row: WeightsRow) -> list[WebFile]:
    """List the files of the authors' release that may be weights.

    Raises:
        WeightsError: no connection, no such release, no weights in it, or too many requests.
    """
    repository, tag = MSPI_RELEASE
    api = (os.environ.get(API_VARIABLE) or API).rstrip("/")
    refuse_offline(api)
    address = f"{api}/repos/{repository}/releases/tags/{tag}"
    try:
        from huggingface_hub import get_session

        headers = {"Accept": "application/vnd.github+json"}
        answer = get_session().get(address, headers=headers, timeout=API_TIMEOUT)
        content = answer.json() if answer.status_code == HTTPStatus.OK else None
    except Exception as error:  # the HTTP library depends on the version of the Hub's client
        raise WeightsError(
            f"{row.name}: {api} cannot be reached ({one_line(error)}); try again, {BY_HAND}"
        ) from None
    if answer.status_code != HTTPStatus.OK:
        raise WeightsError(f"{row.name}: {_refused(answer, repository, tag)}")
    files = _weight_files(content)
    if not files:
        problem = f"{row.name}: the release {tag} of {repository} contains no weights"
        names = [str(asset.get("name")) for asset in _assets(content) if isinstance(asset, dict)]
        if archives := ", ".join(filter(is_archive, names)):
            raise WeightsError(
                f"{problem}, only archives, which avsal does not unpack ({archives}): download one "
                f"from {MSPI_PAGE}, unpack it, then run: avsal weights import FILE"
            )
        raise WeightsError(f"{problem}; see {MSPI_PAGE}")
    return files


def _refused(answer: Any, repository: str, tag: str) -> str:
    if answer.status_code == HTTPStatus.NOT_FOUND:
        return f"{repository} has no release {tag} on GitHub (any more); see {MSPI_PAGE}"
    if answer.status_code in (HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS):
        reset = answer.headers.get("X-RateLimit-Reset", "")
        when = time.strftime("%H:%M", time.localtime(int(reset))) if reset.isdigit() else "later"
        return (
            "GitHub limits the number of requests per hour; try again "
            f"{'at ' if reset.isdigit() else ''}{when}, {BY_HAND}"
        )
    return f"GitHub responded with error {answer.status_code}; try again later, {BY_HAND}"


def _assets(content: Any) -> list[Any]:
    assets = content.get("assets") if isinstance(content, dict) else None
    return assets if isinstance(assets, list) else []


def _weight_files(content: Any) -> list[WebFile]:
    """Find the files that may be weights in GitHub's description of a release."""
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
    """Tell whether a file of the release was imported before and is readable.

    Raises:
        UsageError: the imported weights are from another file than `asset`.
    """
    if not path.is_file():
        return False
    try:
        source = read_metadata(path).get("source", "another file")
    except WeightsError:  # damaged, so it is downloaded again
        return False
    if asset is not None and source != asset:
        raise UsageError(
            f"{path}: contains weights from {source}, not {asset}; add --force to replace it"
        )
    return True


def fitting_files(files: list[WebFile], row: WeightsRow, fold: int) -> list[WebFile]:
    """Find the files, ideally one, whose names fit a network and a fold best.

    A file whose name mentions no size or fold fits any, unless another name mentions the right one.
    A file whose name mentions no network is considered only if no other name mentions one.
    """
    variant = VARIANTS[row.variant]
    files = [file for file in files if not is_encoder(file.name)] or files
    if any(networks_in(file.name) for file in files):
        files = [file for file in files if networks_in(file.name)]
    files = _narrowed(files, networks_in, variant.motion)
    files = _narrowed(files, sizes_in, f"{variant.height}x{variant.width}")
    if any("0" in folds_in(file.name) for file in files):
        return files  # folds may be numbered from 0 or from 1: the user has to choose
    return _narrowed(files, folds_in, str(fold))


def _narrowed(
    files: list[WebFile], found_in: Callable[[str], set[str]], value: str
) -> list[WebFile]:
    exact = [file for file in files if found_in(file.name) == {value}]
    return exact or [f for f in files if not found_in(f.name) or value in found_in(f.name)]


def check_choice(file: WebFile, row: WeightsRow, fold: int | None, chosen_by_hand: bool) -> None:
    """Check before a download that a file's name does not contradict the request.

    Args:
        fold: the requested fold, if any.
        chosen_by_hand: the user named the file, so its name need not mention the fold.

    Raises:
        UsageError: the name mentions another network or fold, or does not mention the fold.
    """
    networks, folds = networks_in(file.name), folds_in(file.name)
    motion = VARIANTS[row.variant].motion
    if networks and motion not in networks:
        raise UsageError(f"asset {file.name}: its name says {', '.join(networks)}, not {motion}")
    if fold is None or str(fold) in folds:
        return
    if folds:
        named = ", ".join(sorted(folds))
        raise UsageError(f"asset {file.name}: its name says fold {named}, not {fold}")
    if not chosen_by_hand:
        raise UsageError(
            f"{row.name}: no file name in the release mentions fold {fold}; if {file.name} is that "
            f"fold, add --asset {shlex.quote(file.name)}, otherwise omit --fold"
        )


def pick(files: list[WebFile], name: str) -> WebFile:
    """Find the file with this name.

    Raises:
        UsageError: there is none.
    """
    found = next((file for file in files if file.name == name), None)
    if found is None:
        names = ", ".join(file.name for file in files)
        raise UsageError(f"asset {name}: not in the release, which has {names}")
    return found
