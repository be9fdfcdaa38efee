"""Files from the web: downloaded into a place of their own, resumed after a broken connection."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from avsal import atomic
from avsal.errors import AvsalError, WeightsError
from avsal.weights.hub import one_line
from avsal.weights.places import user_folder
from avsal.weights.reading import sha256_of

LARGEST = 8 << 30  # bytes; no weights are larger, and a server may send without end
CHUNK = 1 << 18  # bytes
TIMEOUT = 15  # seconds without any answer or any byte
TRIES = 4  # in a row without a byte more
PAUSE = 0.5  # seconds before the second try, doubled before each further one
OK, PARTIAL, RANGE_REFUSED = 200, 206, 416  # HTTP

T = TypeVar("T")
# Called with the bytes that are here and the bytes of the whole, if they are known.
OnBytes = Callable[[int, int | None], None]


@dataclass(frozen=True)
class WebFile:
    """A file at an address.

    Attributes:
        size: bytes; None where only the server knows.
        sha256: of the content; None where nobody tells.
    """

    url: str
    name: str
    size: int | None = None
    sha256: str | None = None


def download(file: WebFile, on_bytes: OnBytes = lambda _here, _all: None) -> Path:
    """Download a file, or the rest of one that an earlier call began.

    Returns:
        Where it is: a place of its own below the user's folder, for the caller to use and remove.

    Raises:
        WeightsError: no connection, no such file, or other content than was announced. What has
            been received is kept for the next call, unless it is wrong.
        OutputError: it cannot be written.
    """
    refuse_offline(file.url)
    what = f"{file.url} {file.size} {file.sha256}"
    part = user_folder() / "downloads" / f"{hashlib.sha256(what.encode()).hexdigest()[:16]}.part"
    with atomic.write_errors(part):
        atomic.prepare_folder(part.parent)
        _receive_all(file, part, on_bytes)
    _check(file, part)
    return part


def use_download(
    file: WebFile, use: Callable[[Path], T], on_bytes: OnBytes = lambda _here, _all: None
) -> T:
    """Download a file, do something with it and remove it; errors name its address.

    Raises:
        AvsalError: see `download`, or whatever `use` raises. The file is kept for the next call
            unless it is itself wrong.
    """
    part = download(file, on_bytes)
    try:
        result = use(part)
    except WeightsError as error:
        _remove(part)
        raise WeightsError(str(error).replace(str(part), file.url)) from None
    _remove(part)
    return result


def refuse_offline(url: str) -> None:
    """Raises WeightsError where HF_HUB_OFFLINE says that no server may be asked."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise WeightsError(f"{url}: not asked, as HF_HUB_OFFLINE is set; unset it to download")


def _receive_all(file: WebFile, part: Path, on_bytes: OnBytes) -> None:
    """Try until the file is complete, or several times in a row brought nothing."""
    failures = 0
    while failures < TRIES:
        before = _size(part)
        try:
            if _receive(file, part, on_bytes):
                return
            cause = "the server sent less than it announced"
        except (AvsalError, OSError):
            raise
        except Exception as error:  # the Hub's client changes the library whose errors these are
            cause = one_line(error)
        failures = failures + 1 if _size(part) <= before else 1
        if failures < TRIES:
            time.sleep(PAUSE * 2 ** (failures - 1))
    kept = f"; {_size(part) / 1e6:.1f} MB are kept, the same command resumes" if _size(part) else ""
    raise WeightsError(f"{file.url}: cannot be downloaded ({cause}){kept or '; try again'}")


def _receive(file: WebFile, part: Path, on_bytes: OnBytes) -> bool:
    """Ask once for what is missing; whether the file is complete then."""
    from huggingface_hub import get_session

    here = _size(part)
    if file.size is not None and here == file.size:
        return True
    headers = {"Accept-Encoding": "identity", **_resuming(file, part)}
    with get_session().stream("GET", file.url, headers=headers, timeout=TIMEOUT) as answer:
        if answer.status_code == RANGE_REFUSED:
            _remove(part)  # it is not a part of what is there now
            return False
        if answer.status_code not in (OK, PARTIAL):
            raise WeightsError(f"{file.url}: {_refusal(answer)}")
        resumed = answer.headers.get("Content-Range", "").startswith(f"bytes {here}-")
        here = here if answer.status_code == PARTIAL and resumed else 0
        total = file.size or _announced(answer, here)
        _version_file(part).write_text(answer.headers.get("ETag", ""), encoding="utf-8")
        _write(answer, part, here, total, on_bytes)
    return total is None or _size(part) >= total


def _resuming(file: WebFile, part: Path) -> dict[str, str]:
    """Headers that ask for the rest, if it is known to belong to what is here."""
    version = _version_file(part)
    tag = version.read_text(encoding="utf-8") if version.is_file() else ""
    here = _size(part)
    if here and tag.startswith('"'):
        return {"Range": f"bytes={here}-", "If-Range": tag}
    return {"Range": f"bytes={here}-"} if here and file.sha256 else {}


def _write(answer: Any, part: Path, here: int, total: int | None, on_bytes: OnBytes) -> None:
    # At its place, not at the end: two downloads at once then write the same.
    with part.open("r+b" if here else "wb") as target:
        target.seek(here)
        for chunk in answer.iter_bytes(CHUNK):
            here += target.write(chunk)
            if here > LARGEST:
                raise WeightsError(f"{answer.url}: more than {LARGEST >> 30} GB; no weights are")
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


def _check(file: WebFile, part: Path) -> None:
    """Make sure that a complete file is what was announced; what is not is removed."""
    found = _size(part)
    if file.size is not None and found != file.size:
        _remove(part)
        raise WeightsError(f"{file.url}: {found} bytes, not {file.size}; it was removed, try again")
    if file.sha256 and (digest := sha256_of(part)) != file.sha256:
        _remove(part)
        raise WeightsError(
            f"{file.url}: the sha256 is {digest[:12]}..., not {file.sha256[:12]}...; it was "
            "removed, try again"
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _version_file(part: Path) -> Path:
    """Holds what the server calls the version of which a part is here (ETag)."""
    return part.with_suffix(".etag")


def _remove(part: Path) -> None:
    for path in (part, _version_file(part)):
        path.unlink(missing_ok=True)
