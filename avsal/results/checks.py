"""Checks before the work on a file begins: that it can be read, and that its result has a place."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path, PurePath
from urllib.parse import unquote

from avsal import atomic
from avsal.errors import MediaError, UsageError
from avsal.media.source import check_file, is_address, name_of
from avsal.media.suffixes import ANIMATIONS, WRITABLE_STILLS, muxer_of
from avsal.results.plan import BY_KIND, next_to_inputs


class ExistsError(UsageError):
    """A result exists already and may not be replaced.

    Attributes:
        place: where it is.
    """

    def __init__(self, place: Path) -> None:
        super().__init__(
            f"{place}: exists; give --force to replace it, --skip-existing to keep it, or another "
            "--output"
        )
        self.place = place

    def __reduce__(self) -> tuple[type[ExistsError], tuple[Path]]:
        return ExistsError, (self.place,)


def is_newer(place: Path, *sources: Path) -> bool:
    """Whether a result exists that is not older than what it is made of; of an address, that it
    exists."""
    try:
        made = place.stat().st_mtime
        return all(is_address(source) or made >= source.stat().st_mtime for source in sources)
    except OSError:
        return False


def is_same(out: Path, source: Path) -> bool:
    """Whether a result would replace its source, by whatever path: "new/../video.mp4" leads to it
    once the folder is made."""
    place = out.resolve()
    return not is_address(source) and source.exists() and place.exists() and place.samefile(source)


def refuse_folders(sources: list[Path]) -> None:
    """Refuse folders where files are wanted.

    Raises:
        UsageError: one of the sources is a folder.
    """
    for source in sources:
        with suppress(OSError):  # a name that is too long is not a folder either
            if source.is_dir():
                raise UsageError(f"{source}: this is a folder; give a file inside it")


def check_source(source: Path) -> None:
    """Refuse what is obviously not a video before anything expensive happens.

    Raises:
        MediaError: the file is missing, empty, not a regular file, or a playlist.
        UsageError: it is a folder.
    """
    refuse_folders([source])
    if is_address(source):
        return
    try:
        check_file(source)
    except FileNotFoundError:
        text = str(source)
        if source.is_symlink():
            reason = f"a broken link (to {source.readlink()}); link it again or remove it"
        elif scheme := re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/+", text):
            local, place = scheme[1].lower() == "file", text[scheme.end() :]
            cure = "save the video to a file first"
            cure = f"give the path: /{unquote(place)}" if local else cure
            reason = f"{scheme[1]}: addresses cannot be read; {cure}"
            text = f"{scheme[1]}:{'///' if local else '//'}{place}"
        else:
            reason = "no such file"
        raise MediaError(f"{text}: {reason}") from None
    except OSError as error:
        raise MediaError(f"{source}: cannot be read ({(error.strerror or '').lower()})") from error


def choose_folder(source: Path, out: Path | None, force: bool, ending: str) -> Path:
    """Where a folder of results goes; see `choose_output`.

    Args:
        out: None is a folder next to the file: its name without the suffix, and `ending`.
        force: replace an earlier result; without it, it is an error.

    Raises:
        ExistsError, UsageError, OutputError: see `choose_output`.
    """
    if out is None:
        ((_, out),) = next_to_inputs([source], ending)
    with atomic.write_errors(out):
        if not force and out.exists():
            raise ExistsError(out)
    atomic.prepare_folder(out.parent)
    return out


def _check_suffix(out: Path, is_image: bool, pictures: bool, animations: bool) -> None:
    """Refuse what cannot be written; see `choose_output`."""
    suffix = out.suffix.lower()
    if pictures and suffix not in WRITABLE_STILLS:
        known = ", ".join(sorted(WRITABLE_STILLS))
        raise UsageError(f"{out}: does not have a picture's suffix; use one of {known}")
    if pictures or (animations and not is_image and suffix in ANIMATIONS):
        return
    if suffix not in WRITABLE_STILLS:
        muxer_of(out)
    elif not is_image:
        raise UsageError(
            f"{out}: a video needs a video suffix such as .mp4"
            + (", or --still or --contact-sheet for a picture" if animations else "")
        )


def choose_output(
    source: Path,
    is_image: bool,
    out: Path | None,
    force: bool,
    word: str = "saliency",
    pictures: bool = False,
    animations: bool = False,
) -> Path:
    """Where a video or picture that is made from another is written; impossible places are refused
    before the network runs.

    Args:
        out: None is a file next to the video: talk.saliency.mp4, or .png for a still image and
            .jpg for a JPEG. The suffix ".*" becomes one of these too.
        force: replace an earlier result; without it, only one that `out` names in full.
        word: the part of the name that says what the result is.
        pictures: the result is a still image, of a video too, then .jpg.
        animations: the result of a video may be an animated GIF or WebP.

    Raises:
        ExistsError: an earlier result is there.
        UsageError: the place is the input or a folder, or has a suffix that cannot be written.
        OutputError: its folder cannot be made.
    """
    if out is None:
        ((_, out),) = next_to_inputs([source], f".{word}{BY_KIND}")
    chosen = out.suffix == BY_KIND
    if chosen:
        suffix = PurePath(name_of(source)).suffix.lower()
        of_image = suffix if suffix in (".jpg", ".jpeg") else ".png"
        of_video = ".jpg" if pictures else ".mp4"
        out = out.with_suffix(of_image if is_image else of_video)
    with atomic.write_errors(out):  # a name may be too long
        if is_same(out, source):
            raise UsageError(f"{out}: this is the input itself; choose another --output")
        if out.is_dir():
            raise UsageError(f"{out}: this is a folder; give a file such as {out / 'out.mp4'}")
        if chosen and not force and out.exists():
            raise ExistsError(out)
    _check_suffix(out, is_image, pictures, animations)
    atomic.prepare_folder(out.parent)
    return out
