"""Whole jobs on files: a video and its maps, or a path file, to a cropped video and its path."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from avsal import atomic, media
from avsal.errors import MediaError, UsageError
from avsal.media.suffixes import WRITABLE_STILLS, muxer_of
from avsal.prediction.predictor import Predictor
from avsal.prediction.settings import MapSize, PredictSettings
from avsal.reframe.file import PathFile, path_beside, read_crops, read_head, write_path
from avsal.reframe.geometry import Picture, Size, parse_aspect
from avsal.reframe.planning import Framing, plan_crops
from avsal.reframe.render import FILLS, render
from avsal.results.folder import Result
from avsal.results.gaze import GazeMap, check_same_video, predicted_gaze, saved_gaze, shots_of
from avsal.results.jobs import source_identity

logger = logging.getLogger("avsal")

OnFrame = Callable[[int], None]
_SIZE_TOLERANCE = 0.02  # by which the shape of a wanted size may miss the aspect


@dataclass(frozen=True)
class ReframeSettings:
    """How a video is reframed; see `Framing`.

    Attributes:
        aspect: of the result, as "9:16".
        fill: "blur" or "black" bars where the gaze does not fit; None never shows bars.
        size: of the result; None takes the largest crop's own.
        crf: quality of H.264, 0 (lossless) to 51.
    """

    aspect: str = "9:16"
    motion: str = "steady"
    zoom: float = 1.0
    fill: str | None = None
    size: Size | None = None
    crf: int = 20

    def __post_init__(self) -> None:
        if self.fill is not None and self.fill not in FILLS:
            raise UsageError(f"pad {self.fill}: give one of {', '.join(FILLS)}")
        aspect = self.framing.aspect
        if self.size and abs(Fraction(*self.size) / aspect - 1) > _SIZE_TOLERANCE:
            wanted = "x".join(map(str, self.size))
            raise UsageError(f"size {wanted}: is not {self.aspect}; give --aspect too")

    @property
    def framing(self) -> Framing:
        """What planning needs to know."""
        return Framing(parse_aspect(self.aspect), self.motion, self.zoom, self.fill is not None)


def check_output(source: Path, out: Path) -> None:
    """Refuse impossible outputs before the network runs.

    Raises:
        UsageError: `out` is the input, a folder, or has a suffix that cannot be written.
        OutputError: the folder of `out` cannot be made.
    """
    if out.exists() and out.samefile(source):
        raise UsageError(f"{out}: this is the input itself; choose another --output")
    if out.is_dir():
        raise UsageError(f"{out}: this is a folder; give a file such as {out / 'cropped.mp4'}")
    if out.suffix.lower() not in WRITABLE_STILLS:
        muxer_of(out)
    elif not media.probe(source).is_image:
        raise UsageError(f"{out}: a video needs a video suffix such as .mp4")
    atomic.prepare_folder(out.parent)


def reframe(
    source: Path,
    out: Path,
    settings: ReframeSettings,
    maps: Result | tuple[Predictor, PredictSettings],
    on_map: OnFrame = lambda _count: None,
    on_frame: OnFrame = lambda _count: None,
) -> None:
    """Crop a video to what people look at; `out` and its path file appear only when whole.

    Args:
        maps: a finished result, or the network that predicts them now.
        on_map, on_frame: called with the number of maps read and of frames written.

    Raises:
        AvsalError: something cannot be read or written, or does not fit together.
    """
    info = media.probe(source)
    picture = Picture(info.width, info.height, info.sample_aspect)
    if picture.largest_crop(settings.framing.aspect) == (1.0, 1.0) and settings.zoom == 1:
        logger.warning("%s: is %s already; nothing is cropped", source, settings.aspect)
    result = maps if isinstance(maps, Result) else None
    if result:
        check_same_video(info, result)
    cuts = [shot.first for shot in shots_of(source, result)[1:]]
    crops = plan_crops(_counted(_gaze(source, maps), on_map), cuts, picture, settings.framing)
    head = PathFile(
        picture,
        settings.aspect,
        settings.size or picture.output_size(settings.framing.aspect),
        result.start if result else None,
        result.end if result else None,
        source_identity(source),
        {"motion": settings.motion, "zoom": settings.zoom, "pad": settings.fill},
    )
    with atomic.new_file(path_beside(out)) as aside:
        write_path(aside, head, crops)
        crops = read_crops(aside, picture)
        fill = settings.fill or "black"
        render(source, out, head, crops, fill=fill, crf=settings.crf, on_frame=on_frame)


def rerender(
    source: Path,
    out: Path,
    path: Path,
    fill: str | None = None,
    size: Size | None = None,
    crf: int = 20,
    on_frame: OnFrame = lambda _count: None,
) -> None:
    """Render a path that was edited; see `reframe`.

    Raises:
        AvsalError: something cannot be read or written, or the path is of another video.
    """
    info = media.probe(source)
    head = read_head(path)
    if (head.picture.width, head.picture.height) != (info.width, info.height):
        raise MediaError(
            f"{path}: a path for a {head.picture.width}x{head.picture.height} video, but {source} "
            f"has {info.width}x{info.height}; give the path of this video"
        )
    head = dataclasses.replace(head, size=size or head.size)
    fill = fill or head.settings.get("pad") or "black"
    with atomic.new_file(path_beside(out)) as aside:
        write_path(aside, head, read_crops(path, head.picture))
        crops = read_crops(aside, head.picture)
        render(source, out, head, crops, fill=fill, crf=crf, on_frame=on_frame)


def _gaze(source: Path, maps: Result | tuple[Predictor, PredictSettings]) -> Iterator[GazeMap]:
    if isinstance(maps, Result):
        return saved_gaze(maps)
    predictor, settings = maps
    frames = predictor.predict(source, settings, size=MapSize.parse("model"))
    return predicted_gaze(frames)


def _counted(maps: Iterator[GazeMap], on_map: OnFrame) -> Iterator[GazeMap]:
    for count, entry in enumerate(maps, 1):
        yield entry
        on_map(count)
