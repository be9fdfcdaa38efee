"""Files from the web, among them those of the authors' release on GitHub.

A download is resumed after a broken connection.

While a process downloads, its part has a name that no other process uses. What is left when the
download stops is renamed to a common name, from which the next download takes it by renaming again.
Two downloads of one address at once therefore never write to one file.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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

LARGEST = 8 << 30  # bytes; no weights are larger, and a server may send without end
CHUNK = 1 << 18  # bytes
TIMEOUT = 15  # seconds without any answer or any byte
TRIES = 4  # in a row without a byte more
PAUSE = 0.5  # seconds before the second try, doubled before each further one
LONGEST_TAG = 150  # characters of an ETag that can be part of a file name
OK, PARTIAL, RANGE_REFUSED = 200, 206, 416  # HTTP
FORBIDDEN, NOT_FOUND, TOO_MANY = 403, 404, 429

T = TypeVar("T")
# Called with the number of bytes received and that of the whole file, if it is known.
OnBytes = Callable[[int, int | None], None]


@dataclass(frozen=True)
class WebFile:
    """A file at an address.

    Attributes:
        size: bytes; None if only the server knows.
        sha256: of the content; None if it is not published.
    """

    url: str
    name: str
    size: int | None = None
    sha256: str | None = None


@dataclass
class _Part:
    """What has been received of a file, under a name that only this process uses.

    Attributes:
        tag: the server's name of the version that the bytes belong to (ETag); "" if it has none.
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
        """Whether the rest can be added without mixing two versions of the file."""
        strong = self.tag.startswith('"') and len(quote(self.tag, safe="")) <= LONGEST_TAG
        return self.size > 0 and (strong or file.sha256 is not None)


@contextmanager
def downloaded(file: WebFile, on_bytes: OnBytes = lambda _here, _all: None) -> Iterator[Path]:
    """Download a file, or the rest of it, and give its path to the `with` block.

    The file is removed when the block ends well or finds that the file is wrong. After any other
    error it is kept for the next call, if it can be resumed safely.

    Raises:
        WeightsError: no connection, no such file, or other content than was announced.
        OutputError: it cannot be written.
    """
    refuse_offline(file.url)
    with _own_part(file) as part:
        with atomic.write_errors(part.path.parent):
            _receive_all(file, part, on_bytes)
        _check(file, part)
        try:
            yield part.path
        except WeightsError:
            part.clear()
            raise
        part.clear()


def use_download(
    file: WebFile, use: Callable[[Path], T], on_bytes: OnBytes = lambda _here, _all: None
) -> T:
    """Download a file and do something with it; errors name its address.

    Raises:
        AvsalError: see `downloaded`, or whatever `use` raises.
    """
    with downloaded(file, on_bytes) as path:
        try:
            return use(path)
        except AvsalError as error:
            raise type(error)(str(error).replace(str(path), file.url)) from None


def refuse_offline(url: str) -> None:
    """Raises WeightsError where HF_HUB_OFFLINE says that no server may be asked."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise WeightsError(f"{url}: not asked, as HF_HUB_OFFLINE is set; unset it to download")


@contextmanager
def _own_part(file: WebFile) -> Iterator[_Part]:
    """Take over what an earlier call left; leave what can be resumed to a later call.

    What a killed process was writing is removed by `atomic.prepare_folder`.
    """
    what = f"{file.url} {file.size} {file.sha256}"
    key = hashlib.sha256(what.encode()).hexdigest()[:16]
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
            left.unlink(missing_ok=True)  # one is enough
            continue
        try:
            left.rename(part.path)  # only one process can do it
        except FileNotFoundError:
            continue
        part.tag = unquote(left.name.removeprefix(f"{key}.").removesuffix(".part"))
    part.path.touch()
    return part


def _receive_all(file: WebFile, part: _Part, on_bytes: OnBytes) -> None:
    """Try until the file is complete, or several times in a row brought nothing."""
    failures = 0
    while failures < TRIES:
        before = part.size
        try:
            if _receive(file, part, on_bytes):
                return
            cause = "the server sent less than it announced"
        except (AvsalError, OSError):
            raise
        except Exception as error:  # the Hub's client changes the library whose errors these are
            cause = one_line(error)
        failures = failures + 1 if part.size <= before else 1
        if failures < TRIES:
            time.sleep(PAUSE * 2 ** (failures - 1))
    remedy = "try again"
    if part.resumable(file):
        remedy = f"{part.size / 1e6:.1f} MB are kept, the same command resumes"
    raise WeightsError(f"{file.url}: cannot be downloaded ({cause}); {remedy}")


def _receive(file: WebFile, part: _Part, on_bytes: OnBytes) -> bool:
    """Ask once for what is missing; whether the file is complete then."""
    from huggingface_hub import get_session

    here = part.size
    if file.size is not None and here == file.size:
        return True
    headers = {"Accept-Encoding": "identity", **_resuming(file, part)}
    with get_session().stream("GET", file.url, headers=headers, timeout=TIMEOUT) as answer:
        content_range = answer.headers.get("Content-Range", "")
        if answer.status_code == RANGE_REFUSED:
            if here and part.tag and content_range == f"bytes */{here}":
                return True  # nothing is missing
            part.clear()  # it is no part of what is there now
            return False
        if answer.status_code not in (OK, PARTIAL):
            raise WeightsError(f"{file.url}: {_refusal(answer)}")
        tag = answer.headers.get("ETag", "")
        if answer.status_code == PARTIAL and not (
            content_range.startswith(f"bytes {here}-") and (not tag or tag == part.tag)
        ):
            part.clear()  # the rest of another version, or another part than was asked for
            return False
        if answer.status_code == OK:
            part.clear()
            part.tag = tag
        total = file.size or _announced(answer, part.size)
        _write(answer, file, part, total, on_bytes)
    return total is None or part.size == total


def _resuming(file: WebFile, part: _Part) -> dict[str, str]:
    """Headers that ask for the rest, if it is known to belong to what is here."""
    if not part.resumable(file):
        return {}
    headers = {"Range": f"bytes={part.size}-"}
    return headers | ({"If-Range": part.tag} if part.tag.startswith('"') else {})


def _write(answer: Any, file: WebFile, part: _Part, total: int | None, on_bytes: OnBytes) -> None:
    """Append what the server sends; stop at once if it is plainly something else than weights."""
    here = part.size
    with part.path.open("ab") as target:
        for chunk in answer.iter_bytes(CHUNK):
            if here == 0:
                refuse_foreign(chunk[:START], file.url)
            here += target.write(chunk)
            if here > LARGEST:
                part.clear()
                raise WeightsError(f"{file.url}: more than {LARGEST >> 30} GB; no weights are")
            on_bytes(here, total)


def _announced(answer: Any, here: int) -> int | None:
    length = answer.headers.get("Content-Length", "")
    return here + int(length) if length.isdigit() else None


def _refusal(answer: Any) -> str:
    reasons = {
        401: "the server wants a login; download it in a browser, then avsal weights import FILE",
        403: "the server refuses; download it in a browser, then avsal weights import FILE",
        404: "there is no such file; check the address",
        429: "the server is asked too often; try again later",
    }
    status = answer.status_code
    return reasons.get(status, f"the server answers with error {status}; try again later")


def _check(file: WebFile, part: _Part) -> None:
    """Make sure that a complete file is what was announced; what is not is removed."""
    if file.size is not None and part.size != file.size:
        found = part.size
        part.clear()
        raise WeightsError(f"{file.url}: {found} bytes, not {file.size}; it was removed, try again")
    if file.sha256 and (digest := sha256_of(part.path)) != file.sha256:
        part.clear()
        raise WeightsError(
            f"{file.url}: the sha256 is {digest[:12]}..., not {file.sha256[:12]}...; it was "
            "removed, try again"
        )


# --- the authors' release on GitHub ---------------------------------------------------------------

API_VARIABLE = "AVSAL_GITHUB_API"  # another server, for tests and mirrors
API = "https://api.github.com"
API_TIMEOUT = 8  # seconds
SUFFIXES = (".pt", ".pth", ".pt.tar", ".pth.tar", ".bin", ".ckpt", ".safetensors")
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
        answer = get_session().get(address, headers=headers, timeout=API_TIMEOUT)
        content = answer.json() if answer.status_code == OK else None
    except Exception as error:  # the Hub's client changes the library whose errors these are
        raise WeightsError(
            f"{row.name}: {api} cannot be reached ({one_line(error)}); try again, {BY_HAND}"
        ) from None
    if answer.status_code != OK:
        raise WeightsError(f"{row.name}: {_refused(answer, repository, tag)}")
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


def _refused(answer: Any, repository: str, tag: str) -> str:
    if answer.status_code == NOT_FOUND:
        return f"{repository} has no release {tag} on GitHub (any more); see {MSPI_PAGE}"
    if answer.status_code in (FORBIDDEN, TOO_MANY):
        reset = answer.headers.get("X-RateLimit-Reset", "")
        when = time.strftime("%H:%M", time.localtime(int(reset))) if reset.isdigit() else "later"
        return (
            "GitHub limits the number of requests per hour; try again "
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
            f"{file.name} is, add --asset {shlex.quote(file.name)}, otherwise omit --fold"
        )


def pick(files: list[WebFile], name: str) -> WebFile:
    """Find the file with a name.

    Raises:
        UsageError: there is none.
    """
    found = next((file for file in files if file.name == name), None)
    if found is None:
        names = ", ".join(file.name for file in files)
        raise UsageError(f"asset {name}: the release has {names}")
    return found
