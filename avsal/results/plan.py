"""Which files belong to a job and where their results go."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePath

from avsal import atomic
from avsal.errors import MediaError, UsageError
from avsal.media.source import as_source, check_file, is_address, name_of
from avsal.media.suffixes import STILLS, VIDEOS, WRITABLE_STILLS, muxer_of
from avsal.results.description import is_result

OVERLAY = ".saliency"  # ends the stem of an overlay that lies beside its video

Job = tuple[Path, Path]  # an input and the folder that its result belongs in


def plan_files(sources: Iterable[Path], output: Path, folders: Collection[str] = ()) -> list[Job]:
    """Give every file a result folder: named after its stem, or after its whole name where the
    stem is also another file's stem or name, or a folder's.

    So no result lies in another one's folder, and letters' case makes no difference.

    Args:
        sources: a file that comes twice is done once.
        folders: names of folders with results that will lie beside these.

    Raises:
        UsageError: two files of the same name would share a folder.
    """
    sources = list(dict.fromkeys(sources))
    names = [PurePath(name_of(source)) for source in sources]
    taken = Counter(_folded(name.stem) for name in names)
    taken.update({_folded(name.name) for name in names if name.suffix})
    taken.update(_folded(name) for name in folders)
    jobs = [
        (source, output / (name.stem if taken[_folded(name.stem)] == 1 else name.name))
        for source, name in zip(sources, names, strict=True)
    ]
    owners: dict[Path, Path] = {}
    for source, folder in jobs:
        other = owners.setdefault(folder, source)
        if other != source:
            raise UsageError(
                f"{other} and {source}: both would be written to {folder}; use two --output folders"
            )
    return jobs


def _folded(name: str) -> str:
    """A name as file systems see it that take A.mp4 and a.mp4 for the same."""
    return unicodedata.normalize("NFC", name).casefold()


def plan_folder(folder: Path, output: Path, pattern: str | None = None) -> list[Job]:
    """Find a folder's videos and images and mirror its tree under `output`; see `plan_files`.

    Args:
        pattern: a glob such as "*.mp4" on names, or "clips/**/*.mov" on paths inside the folder;
            None takes every file with a known suffix.

    Results of earlier runs are left out, talk.saliency.mp4 beside talk.mp4 among them, and hidden
    files and folders too.

    Raises:
        UsageError: `folder` is no folder, or the pattern is none or leaves it.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: not a folder; for single files use avsal predict")
    by_folder: dict[Path, list[Path]] = {}
    for source in _media_files(folder, output, pattern):
        by_folder.setdefault(source.parent, []).append(source)
    inside: dict[Path, set[str]] = {}  # the folders with files, or with such folders, of each one
    for parent in by_folder:
        for place in (parent, *parent.parents):
            if place == folder:
                break
            inside.setdefault(place.parent, set()).add(place.name)
    return [
        job
        for parent, sources in sorted(by_folder.items())
        for job in plan_files(
            sources, output / parent.relative_to(folder), inside.get(parent, set())
        )
    ]


def _media_files(folder: Path, output: Path, pattern: str | None) -> Iterator[Path]:
    results = output.resolve()
    found = _found(folder, pattern or "*")
    known = {path.with_suffix("") for path in found}
    for path in found:
        relative = path.relative_to(folder)
        if any(part.startswith(".") for part in relative.parts) or not path.is_file():
            continue
        if pattern is None and path.suffix.lower() not in VIDEOS | STILLS:
            continue
        original = path.with_name(path.stem.removesuffix(OVERLAY))
        if pattern is None and path.stem.endswith(OVERLAY) and original in known:
            continue  # drawn over the video beside it
        if is_result(path.parent):
            continue  # a map of an earlier run, wherever that was written
        if results != folder.resolve() and results in path.resolve().parents:
            continue
        yield path


def _found(folder: Path, pattern: str) -> list[Path]:
    try:
        if ".." in PurePath(pattern).parts:
            raise ValueError("it leaves the folder")
        return sorted(folder.rglob(pattern))
    except (ValueError, NotImplementedError) as error:
        raise UsageError(
            f"--glob {pattern}: not a pattern inside {folder} ({str(error).lower()}); give one "
            'such as "*.mp4"'
        ) from None


def refuse_folders(sources: list[Path]) -> None:
    """Refuse folders where files are wanted.

    Raises:
        UsageError: one of the sources is a folder.
    """
    for source in sources:
        with suppress(OSError):  # a name that is too long is no folder either
            if source.is_dir():
                raise UsageError(f"{source}: this is a folder; give a file, or use avsal batch")


def check_source(source: Path) -> None:
    """Refuse what is plainly no video before anything heavy happens.

    Raises:
        MediaError: the file is missing, empty, no regular file or a playlist.
        UsageError: it is a folder.
    """
    refuse_folders([source])
    if is_address(source):
        return
    try:
        check_file(source)
    except FileNotFoundError:
        raise MediaError(f"{source}: no such file") from None
    except OSError as error:
        raise MediaError(f"{source}: cannot be read ({(error.strerror or '').lower()})") from error


def choose_output(
    source: Path, is_image: bool, out: Path | None, force: bool, word: str = "saliency"
) -> Path:
    """Where a video made of another goes; impossible places are refused before the network runs.

    Args:
        out: None takes a place beside the video: talk.saliency.mp4, or .png for a still image.
        force: the place beside the video may hold an earlier result.
        word: what stands in the name beside the video.

    Raises:
        UsageError: the place is the input, a folder, taken, or has a suffix that cannot be written.
        OutputError: its folder cannot be made.
    """
    if out is None:
        out = _beside(source, is_image, word)
        if out.exists() and not force:
            raise UsageError(f"{out}: exists; give --force to replace it, or another --output")
    with atomic.write_errors(out):
        if out.exists() and not is_address(source) and out.samefile(source):
            raise UsageError(f"{out}: this is the input itself; choose another --output")
        if out.is_dir():
            raise UsageError(f"{out}: this is a folder; give a file such as {out / 'out.mp4'}")
    if out.suffix.lower() not in WRITABLE_STILLS:
        muxer_of(out)
    elif not is_image:
        raise UsageError(f"{out}: a video needs a video suffix such as .mp4")
    atomic.prepare_folder(out.parent)
    return out


def _beside(source: Path, is_image: bool, word: str) -> Path:
    if is_address(source):
        raise UsageError(f"{as_source(source)}: is an address; give --output")
    return source.with_name(f"{source.stem}.{word}{'.png' if is_image else '.mp4'}")
