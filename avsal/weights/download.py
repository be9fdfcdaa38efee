"""Files from the web: downloaded completely, resumed after a broken connection.

While a process downloads, its part has a name that no other process uses. What is left when the
download stops is renamed to a common name, from which the next download takes it by renaming again.
Two downloads of one address at once therefore never write to one file.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from avsal import atomic
from avsal.errors import AvsalError, WeightsError
from avsal.weights.hub import one_line
from avsal.weights.places import user_folder
from avsal.weights.reading import START, refuse_foreign, sha256_of

LARGEST = 8 << 30  # bytes; no weights are larger, and a server may send without end
CHUNK = 1 << 18  # bytes
TIMEOUT = 15  # seconds without any answer or any byte
TRIES = 4  # in a row without a byte more
PAUSE = 0.5  # seconds before the second try, doubled before each further one
LONGEST_TAG = 150  # characters of an ETag that can be part of a file name
OK, PARTIAL, RANGE_REFUSED = 200, 206, 416  # HTTP

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
