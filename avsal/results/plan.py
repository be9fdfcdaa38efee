"""Which files belong to a job and where their results go."""

from __future__ import annotations

import glob
import itertools
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePath

from avsal.errors import UsageError
from avsal.media.source import as_source, is_address, name_of
from avsal.media.suffixes import STILLS, VIDEOS, WRITABLE_STILLS
from avsal.results.description import is_result

OVERLAY = ".saliency"  # ends the stem of an overlay next to its video
STILL, SHEET = ".saliency-still", ".saliency-sheet"  # and of one or several of its frames
# Folders of results next to their video end so.
STILLS_FOLDER, MEASURED = ".saliency-shots", ".measure"
SUMMARY = "summary.json"  # in a folder with a measurement
STILL_COMMENT = b"avsal overlay"  # begins the comment of the JPEG files in a folder of stills
CROP_PATH = ".reframe.json"  # ends the name of the path file next to a reframed video
STREAM = Path("-")  # standard input or output
BY_KIND = ".*"  # suffix of a result that gets the one for its kind: a video or a still image

# Suffixes of files that somebody may expect in place of a folder of results.
_FILES = VIDEOS | WRITABLE_STILLS | frozenset(".csv .htm .html .json .npy .parquet .pdf".split())
_SAVED = re.compile(r"(shot|thumbnail-shot)-\d+\.jpg", re.ASCII)
_HEAD = 256  # bytes at the beginning of a file that say what it is

Job = tuple[Path, Path]  # an input, and the file or the folder that its result goes to


def plan_inputs(
    inputs: list[Path],
    output: Path | None,
    ending: str,
    on_omitted: Callable[[str], None] = lambda _reason: None,
) -> list[Job]:
    """Find the files that inputs stand for, and a place for the result of each.

    Args:
        inputs: files, http(s) addresses, folders and patterns such as "clips/*.mp4".
        output: the place of the result of one file. Where there may be several files it is a
            folder, which mirrors the trees of input folders. None puts each result next to its
            input.
        ending: what follows an input's name next to it: ".saliency.*" or ".measure"; with
            `BY_KIND` results are files. Empty where results are folders inside `output`.
        on_omitted: called with the reason for every file of a folder that is not taken.

    Raises:
        UsageError: a pattern matches no file, two results would have the same place, or `output` is
            no place for the results.
    """
    files, folders = _expanded(inputs)
    if output == STREAM:
        raise UsageError("-: results cannot go to standard output; give a file or a folder")
    if output is None:
        found = [
            source
            for folder in folders
            for source, _ in plan_folder(folder, folder, on_omitted=on_omitted)
        ]
        return next_to_inputs(list(dict.fromkeys([*files, *found])), ending)
    suffix = BY_KIND if ending.endswith(BY_KIND) else ""
    is_folder = bool(suffix) and (output.suffix == "" or output.is_dir())
    if ending and inputs == files and len(files) == 1 and not is_folder:
        if not suffix:
            check_folder_name(output)
        return [(files[0], output)]
    if ending:
        check_folder_name(output)
    if len(folders) == 1 and not files:
        jobs = plan_folder(folders[0], output, on_omitted=on_omitted)
    else:
        names = [folder.resolve().name for folder in folders]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UsageError(f"two folders are called {twice}; use two --output folders")
        jobs = plan_files(files, output, names)
        for folder, name in zip(folders, names, strict=True):
            jobs += plan_folder(folder, output / name, on_omitted=on_omitted)
    return [(source, place.with_name(place.name + suffix)) for source, place in jobs]


def check_folder_name(output: Path) -> None:
    """Refuse the name of a file where a folder of results will be; one that exists is fine.

    Raises:
        UsageError: it is such a name.
    """
    if output.suffix.lower() in _FILES and not output.is_dir():
        raise UsageError(
            f"{output}: is the name of a file; give a folder for the results, such as "
            f"{output.with_suffix('')}"
        )


def _expanded(inputs: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Files and folders that inputs stand for."""
    files: list[Path] = []
    folders: list[Path] = []
    for path in inputs:
        with suppress(OSError):  # a name that is too long is neither a folder nor a pattern
            if path.is_dir():
                folders.append(path)
                continue
            if is_pattern(path):
                files += _matching(path)
                continue
        files.append(path)
    return list(dict.fromkeys(files)), list(dict.fromkeys(folders))


def is_pattern(path: Path) -> bool:
    """Whether a path is a pattern; brackets alone are more often a name that is misspelt."""
    return not is_address(path) and bool({"*", "?"} & set(str(path))) and not os.path.lexists(path)


def _matching(pattern: Path) -> list[Path]:
    # `Path.glob` would give hidden files, too.
    matches = {Path(match) for match in glob.glob(str(pattern), recursive=True)}  # noqa: PTH207
    known = _names(matches)
    files = [match for match in sorted(matches) if match.is_file() and not _is_ours(match, known)]
    if not files:
        raise UsageError(f"{pattern}: matches no file; put other patterns in quotes as well")
    return files


def next_to_inputs(sources: list[Path], ending: str) -> list[Job]:
    """Give every file a place in its own folder: its name without suffix, and `ending`.

    Raises:
        UsageError: one of them is a web address.
    """
    by_folder: dict[Path, list[Path]] = {}
    for source in sources:
        if is_address(source):
            raise UsageError(
                f"{as_source(source)}: is a web address, so there is no folder to write next to; "
                "give --output"
            )
        by_folder.setdefault(source.parent, []).append(source)
    places = {
        source: place.with_name(place.name + ending)
        for parent, group in by_folder.items()
        for source, place in plan_files(group, parent)
    }
    return [(source, places[source]) for source in sources]


def plan_files(sources: Iterable[Path], output: Path, folders: Collection[str] = ()) -> list[Job]:
    """Give every file a result folder: named after its stem, or after its whole name where the
    stem is also another file's stem or name, or a folder's.

    So no result is in another one's folder. Names that differ only by case, or in how accents
    are encoded, are one name to some file systems; the second gets a number: "talk.mp4-2".

    Args:
        sources: a file that comes twice is done once.
        folders: names of folders with results that will be next to these.

    Raises:
        UsageError: two files of the same name would share a folder.
    """
    sources = list(dict.fromkeys(sources))
    names = [PurePath(name_of(source)) for source in sources]
    taken = Counter(_folded(name.stem) for name in names)
    taken.update({_folded(name.name) for name in names if name.suffix})
    taken.update(_folded(name) for name in folders)
    jobs = []
    owners: dict[str, Path] = {}
    for source, name in zip(sources, names, strict=True):
        part = name.stem if taken[_folded(name.stem)] == 1 else name.name
        other = owners.get(_folded(part))
        if other is not None and name_of(other) == name.name:
            folder = output / part
            raise UsageError(
                f"{other} and {source}: both would be written to {folder}; use two --output folders"
            )
        part = _free(part, owners)
        owners[_folded(part)] = source
        jobs.append((source, output / part))
    return jobs


def _free(name: str, taken: Container[str]) -> str:
    """A name, or where it is taken the same with the first number that is free."""
    numbered = (f"{name}-{number}" for number in itertools.count(2))
    return next(each for each in itertools.chain([name], numbered) if _folded(each) not in taken)


def _folded(name: str) -> str:
    """A name as file systems see it that take A.mp4 and a.mp4 for the same."""
    return unicodedata.normalize("NFC", name).casefold()


def plan_folder(
    folder: Path,
    output: Path,
    pattern: str | None = None,
    on_omitted: Callable[[str], None] = lambda _reason: None,
) -> list[Job]:
    """Find a folder's videos and images and mirror its tree under `output`; see `plan_files`.

    Args:
        pattern: a glob such as "*.mp4" on names, or "clips/**/*.mov" on paths inside the folder;
            None takes every file with a known suffix.
        on_omitted: called with the reason for every file that is not taken, see `_reason`.

    Results of earlier runs are omitted, such as talk.saliency.mp4 next to talk.mp4, and hidden
    files and folders too.

    Raises:
        UsageError: `folder` is not a folder, or the pattern is malformed or fits no file in it.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: is not a folder; give a folder of videos and images")
    by_folder: dict[Path, list[Path]] = {}
    for source in _media_files(folder, output, pattern, on_omitted):
        by_folder.setdefault(source.parent, []).append(source)
    if pattern is not None and not by_folder:
        raise UsageError(f"--glob {pattern}: fits no file in {folder} that could be predicted")
    inside: dict[Path, set[str]] = {}  # the folders with files, or with such folders, of each one
    for parent in by_folder:
        for place in (parent, *parent.parents):
            if place == folder:
                break
            inside.setdefault(place.parent, set()).add(place.name)
    mirrored = {folder: output}
    for parent, names in sorted(inside.items()):
        taken: set[str] = set()
        for name in sorted(names):
            part = _free(name, taken)
            taken.add(_folded(part))
            mirrored[parent / name] = mirrored[parent] / part
    return [
        job
        for parent, sources in sorted(by_folder.items())
        for job in plan_files(sources, mirrored[parent], inside.get(parent, set()))
    ]


def _media_files(
    folder: Path, output: Path, pattern: str | None, on_omitted: Callable[[str], None]
) -> Iterator[Path]:
    found = _found(folder, pattern or "*")
    known = _names(found)
    for path in found:
        if path.is_dir() and not path.is_symlink() and os.access(path, os.R_OK | os.X_OK):
            continue
        reason = _reason(path, folder, output, pattern, known)
        if reason is None:
            yield path
        else:
            on_omitted(reason)


def _reason(
    path: Path, folder: Path, output: Path, pattern: str | None, known: Container[Path]
) -> str | None:
    """Why a file is not predicted; None for one that is, broken links among them."""
    results = output.resolve()
    inside = results != folder.resolve() and results in path.resolve().parents
    # Maps of an earlier run are known wherever those were written.
    if inside or is_result(path.parent) or _is_in_ours(path.relative_to(folder), folder, known):
        return "results of avsal"
    if any(part.startswith(".") for part in path.relative_to(folder).parts):
        return "hidden"
    if path.is_dir():
        return "links to folders" if path.is_symlink() else "folders that cannot be read"
    if path.exists() and not path.is_file():
        return "pipes or devices"
    if pattern is None and path.suffix.lower() not in VIDEOS | STILLS:
        return "other suffixes"
    return "results of avsal" if pattern is None and _is_ours(path, known) else None


def _names(paths: Iterable[Path]) -> set[Path]:
    """What results next to files are named after: the files with and without their suffixes."""
    files = [path for path in paths if not path.is_dir()]
    return {name for file in files for name in (file, file.with_suffix(""))}


def _is_ours(path: Path, known: Container[Path]) -> bool:
    """Whether a file is an overlay next to its video, a reframed video next to its path file, or a
    picture of a folder of results."""
    if _is_saved_picture(path):
        return True
    drawn = any(
        path.stem.endswith(end) and path.with_name(path.stem.removesuffix(end)) in known
        for end in (OVERLAY, STILL, SHEET)
    )
    with suppress(OSError):  # the name may be too long, and nothing bears it
        return drawn or path.with_suffix(CROP_PATH).is_file()
    return drawn


def _is_saved_picture(path: Path) -> bool:
    """Whether a file is a picture in a folder of stills, or with a measurement."""
    match = _SAVED.fullmatch(path.name)
    if match is None:
        return False
    marks = {
        "shot": (path, STILL_COMMENT),
        "thumbnail-shot": (path.with_name(SUMMARY), b'"measure": '),
    }
    file, mark = marks[match[1]]
    with suppress(OSError), file.open("rb") as opened:
        return mark in opened.read(_HEAD)
    return False


def _is_in_ours(path: PurePath, folder: Path, known: Container[Path]) -> bool:
    """Whether a file, named from `folder`, is in a folder of results next to their video."""
    return any(
        parent.name.endswith(end) and folder / str(parent).removesuffix(end) in known
        for parent in path.parents
        for end in (STILLS_FOLDER, MEASURED)
    )


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
