"""A dry run: read everything once that a run would read, and tell what is broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from avsal.errors import AvsalError, DataError
from avsal.spectrogram import SAMPLE_RATE
from avsal.training.config import Config
from avsal.training.sets import open_sets
from avsal.training.sources import Source


@dataclass(frozen=True)
class Report:
    """What a dry run found in the training or the validation sets.

    Attributes:
        split: "train" or "validation".
        sources: videos and images.
        frames: frames of them all.
        maps, empty: saliency maps, and how many of them are 0 everywhere.
        fixated: targets with known fixations.
        heard: sources with sound.
        sizes: (width, height) of frames and how many sources have it.
        problems: one line for each thing that is broken.
    """

    split: str
    sources: int
    frames: int
    maps: int
    empty: int
    fixated: int
    heard: int
    sizes: dict[tuple[int, int], int]
    problems: tuple[str, ...]


@dataclass
class _Finding:
    frames: int = 0
    maps: int = 0
    empty: int = 0
    fixated: int = 0
    heard: bool = False
    size: tuple[int, int] | None = None
    problems: tuple[str, ...] = ()


def inspect(
    config: Config, progress: Callable[[str, int, int], None] = lambda split, done, total: None
) -> Iterator[Report]:
    """Read every frame, map, fixation and sound of a run once.

    Args:
        progress: takes the split's name, sources done and all sources.

    Raises:
        DataError: a whole set cannot be opened.
    """
    for split, sets, part in (
        ("train", config.data.train, "train"),
        ("validation", config.data.validation, "test"),
    ):
        sources = list({id(each): each for each in open_sets(sets, part)}.values())
        if not sources:
            continue
        findings = []
        with ThreadPoolExecutor(max(1, config.run.workers)) as pool:
            for finding in pool.map(_read, sources):
                findings.append(finding)
                progress(split, len(findings), len(sources))
        yield _report(split, findings)


def _report(split: str, findings: list[_Finding]) -> Report:
    return Report(
        split,
        len(findings),
        sum(each.frames for each in findings),
        sum(each.maps for each in findings),
        sum(each.empty for each in findings),
        sum(each.fixated for each in findings),
        sum(each.heard for each in findings),
        dict(Counter(each.size for each in findings if each.size)),
        tuple(problem for each in findings for problem in each.problems),
    )


def _read(source: Source) -> _Finding:
    finding = _Finding()
    problems: list[str] = []
    for check in (_read_frames, _read_targets, _read_sound):
        for problem in check(source, finding):
            # One cause shows in many windows; say it once.
            if problem not in problems:
                problems.append(problem)
    finding.problems = tuple(problems)
    return finding


def _read_frames(source: Source, finding: _Finding) -> Iterator[str]:
    try:
        count = source.frames
    except AvsalError as error:
        yield str(error)
        return
    for index in range(count):
        try:
            image = source.images([index])[0]
        except AvsalError as error:
            yield str(error)
            continue
        finding.frames += 1
        size = (image.shape[1], image.shape[0])
        if finding.size and size != finding.size:
            was = f"{finding.size[0]}x{finding.size[1]}"
            yield f"{source.name}: frame {index} is {size[0]}x{size[1]}, those before are {was}"
        finding.size = size


def _read_targets(source: Source, finding: _Finding) -> Iterator[str]:
    for target in source.targets:
        try:
            values = source.map(target)
            points = source.fixations(target)
            _check_map(source.name, target, values)
        except AvsalError as error:
            yield str(error)
            continue
        finding.maps += 1
        finding.empty += not values.any()
        finding.fixated += points is not None and len(points) > 0
    if finding.maps and finding.empty == finding.maps:
        yield f"{source.name}: all of its maps are empty; leave it out with exclude"


def _check_map(name: str, target: int, values: np.ndarray) -> None:
    if not np.isfinite(values).all() or values.min() < 0:
        raise DataError(f"{name}: the map of frame {target} has negative or undefined values")


def _read_sound(source: Source, finding: _Finding) -> Iterator[str]:
    try:
        end = round(source.frames / source.rate * SAMPLE_RATE) if source.rate else 0
        finding.heard = bool(source.samples(0, end).any())
    except AvsalError as error:
        yield str(error)
