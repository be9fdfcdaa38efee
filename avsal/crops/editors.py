"""Crop paths as timelines for video editors: Final Cut Pro XML, CMX 3600 EDL and OpenTimelineIO.

Every shot is a clip. Final Cut Pro XML has the crop as key frames of position and scale, in a
project of the result's size. OpenTimelineIO, which has no key frames, has the boxes in the metadata
of an effect "avsal.crop". An EDL has each shot's first box as a comment. Of two panels, Final Cut
Pro XML has the first alone.

Editors count frames at a constant rate; the times of a variable rate are rounded to it. They find
the frames of a video that has a timecode by that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from avsal.crops.file import PathFile, fitted_size
from avsal.crops.planning import Crop
from avsal.errors import UsageError

# Frames per second that editors know.
_RATES = (
    Fraction(24000, 1001),
    Fraction(24),
    Fraction(25),
    Fraction(30000, 1001),
    Fraction(30),
    Fraction(50),
    Fraction(60000, 1001),
    Fraction(60),
)
_DROPPING = frozenset({Fraction(30000, 1001), Fraction(60000, 1001)})  # may skip numbers of frames
_TIMECODE = re.compile(r"(\d\d):(\d\d):(\d\d)([:;.])(\d\d)", re.ASCII)
_ROUNDING = 0.002  # seconds by which frames of a constant rate may miss their time in a file
_SAME_RATE = 0.0005  # half of the distance between 24 and 23.976 frames per second


def check_library(suffix: str) -> None:
    """Refuse ".edl" and ".otio" where the library for them is not installed.

    Raises:
        UsageError: it is not.
    """
    needed = {".otio": ("opentimelineio",), ".edl": ("opentimelineio", "otio_cmx3600_adapter")}
    if any(find_spec(name) is None for name in needed.get(suffix, ())):
        raise UsageError(
            f"{suffix}: needs OpenTimelineIO; pip install 'avsal[editors]', or write .fcpxml"
        )


@dataclass
class ShotClip:
    """A shot on a timeline.

    Attributes:
        shot: its number.
        start, stop: its first frame and the one behind its last, counted from the video's first.
        keys: frames with their crops; in between, the crop stays as it is.
    """

    shot: int
    start: int
    stop: int
    keys: list[tuple[int, Crop]] = field(default_factory=list)


@dataclass(frozen=True)
class Timeline:
    """All that the formats have in common.

    Attributes:
        name: of the video.
        url: of the video.
        has_sound: whether the video has sound.
        rate: frames per second.
        begin: number of the video's first frame by its timecode; 0 without one.
        drops: whether numbers of frames are skipped to keep pace with the clock; None without a
            timecode.
    """

    head: PathFile
    name: str
    url: str
    has_sound: bool
    rate: Fraction
    clips: list[ShotClip]
    begin: int = 0
    drops: bool | None = None

    @property
    def duration(self) -> int:
        """Frames."""
        return self.clips[-1].stop - self.clips[0].start


def write(
    place: Path,
    head: PathFile,
    source: Path | str,
    has_sound: bool,
    crops: Iterable[Crop],
    timecode: str | None = None,
) -> None:
    """Write a timeline in the format of the suffix of `place`.

    Args:
        source: the video's absolute path, or its address.
        crops: at least one.
        timecode: of the video's first frame; None if it has none.
    """
    crops = list(crops)
    url = quote(source, safe=":/%") if isinstance(source, str) else source.absolute().as_uri()
    name = "".join(char if char.isprintable() else "?" for char in Path(source).name)
    rate = timeline_rate([crop.pts for crop in crops])
    clips = shot_clips(crops, rate, head.origin)
    timeline = Timeline(head, name, url, has_sound, rate, clips, *first_number(timecode, rate))
    if place.suffix.lower() == ".fcpxml":
        _write_fcpxml(place, timeline)
    elif place.suffix.lower() == ".edl":
        _write_edl(place, timeline)
    else:
        _write_otio(place, timeline)


def timeline_rate(times: Sequence[Fraction]) -> Fraction:
    """The rate of a timeline for frames at these times: the video's own where editors know it.

    Else the least one that is a multiple of the video's, or that is higher, or the highest.
    """
    steps = [after - before for before, after in pairwise(times) if after > before]
    if not steps:
        return Fraction(25)
    mean = sum(steps, Fraction(0)) / len(steps)
    constant = all(abs(step - mean) <= _ROUNDING for step in steps)
    rate = 1 / (mean if constant else median(steps))
    for known in _RATES:
        if abs(known / rate - 1) < _SAME_RATE:
            return known
    multiples = [known for known in _RATES if abs(known / rate - round(known / rate)) < _SAME_RATE]
    higher = [known for known in _RATES if known > rate]
    return [*(known for known in multiples if known > rate), *higher, _RATES[-1]][0]


def first_number(timecode: str | None, rate: Fraction) -> tuple[int, bool | None]:
    """The number of the frame with a timecode, and whether numbers are skipped; see `Timeline`.

    At 29.97 frames per second the numbers 0 and 1 may be skipped in every minute but each tenth
    (SMPTE ST 12-1), which a semicolon tells.
    """
    match = _TIMECODE.fullmatch(timecode or "")
    if match is None:
        return 0, None
    hours, minutes, seconds, frames = (int(match[group]) for group in (1, 2, 3, 5))
    minutes += 60 * hours
    number = (60 * minutes + seconds) * round(rate) + frames
    drops = match[4] != ":" and rate in _DROPPING
    if drops:
        number -= round(rate) // 15 * (minutes - minutes // 10)
    return number, drops


def shot_clips(
    crops: Sequence[Crop], rate: Fraction, origin: Fraction | None = None
) -> list[ShotClip]:
    """The shots that crops tell, on a timeline's frames.

    Where several frames of a video fall on one of the timeline, the last one counts.

    Args:
        origin: see `PathFile`; None takes a constant rate before the first crop.
    """
    steps = [after.pts - before.pts for before, after in pairwise(crops) if after.pts > before.pts]
    step = median(steps) if steps else 1 / rate
    before = crops[0].index * step if origin is None else crops[0].pts - origin
    skipped = round(before * rate)  # where the path is of a part of the video
    frames = [skipped + round((crop.pts - crops[0].pts) * rate) for crop in crops]
    end = skipped + max(1, round((crops[-1].pts - crops[0].pts + step) * rate))
    clips: list[ShotClip] = []
    for frame, crop in zip(frames, crops, strict=True):
        if not clips or crop.shot != clips[-1].shot:
            clips.append(ShotClip(crop.shot, frame, frame))
        keys = clips[-1].keys
        if keys and keys[-1][0] == frame:
            keys.pop()
        keys.append((frame, crop))
    for clip, following in zip(clips, [*(clip.start for clip in clips[1:]), end], strict=True):
        clip.stop = following
        clip.keys = _without_rests(clip.keys)
    return [clip for clip in clips if clip.stop > clip.start]


def _without_rests(keys: list[tuple[int, Crop]]) -> list[tuple[int, Crop]]:
    """Leave out crops that are those of both frames around them; one that never moves has one."""
    boxes = [_boxes(crop) for _frame, crop in keys]
    return [
        key
        for number, key in enumerate(keys)
        if not number
        or boxes[number] != boxes[number - 1]
        or (number + 1 < len(keys) and boxes[number] != boxes[number + 1])
    ]


def _boxes(crop: Crop) -> list[tuple[float, ...]]:
    return [tuple(round(side, 3) for side in box) for box in crop.boxes]


# ---- Final Cut Pro XML


def _write_fcpxml(place: Path, timeline: Timeline) -> None:
    """Version 1.8, which Final Cut Pro 10.4 and later and other editors read.

    Written here, as OpenTimelineIO's adapter knows no key frames, no sizes and few rates.
    """
    root = ElementTree.Element("fcpxml", version="1.8")
    _add_resources(root, timeline)
    title = f"{Path(timeline.name).stem} {timeline.head.aspect}"
    event = _add(_add(root, "library"), "event", name="avsal")
    project = _add(event, "project", name=title)
    duration = _seconds(timeline.duration, timeline.rate)
    sequence = _add(
        project, "sequence", format="r2", duration=duration, tcStart="0s", tcFormat="NDF"
    )
    spine = _add(sequence, "spine")
    for clip in timeline.clips:
        _add_clip(spine, timeline, clip)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    header = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n'
    place.write_text(f"{header}{text}\n", encoding="utf-8")


def _add(parent: ElementTree.Element, tag: str, **values: str) -> ElementTree.Element:
    return ElementTree.SubElement(parent, tag, values)


def _add_resources(root: ElementTree.Element, timeline: Timeline) -> None:
    resources = _add(root, "resources")
    picture, size = timeline.head.picture, timeline.head.size
    step = _seconds(1, timeline.rate)
    width, height = str(picture.width), str(picture.height)
    video = _add(resources, "format", id="r1", frameDuration=step, width=width, height=height)
    if picture.sample_aspect != 1:
        video.set("paspH", str(picture.sample_aspect.numerator))
        video.set("paspV", str(picture.sample_aspect.denominator))
    width, height = map(str, size)
    _add(resources, "format", id="r2", frameDuration=step, width=width, height=height)
    asset = _add(
        resources,
        "asset",
        id="r3",
        name=timeline.name,
        src=timeline.url,
        start=_seconds(timeline.begin, timeline.rate),
        duration=_seconds(timeline.clips[-1].stop, timeline.rate),
        hasVideo="1",
        format="r1",
    )
    if timeline.has_sound:
        for name in ("hasAudio", "audioSources"):
            asset.set(name, "1")


def _add_clip(spine: ElementTree.Element, timeline: Timeline, clip: ShotClip) -> None:
    first = timeline.clips[0].start
    element = _add(
        spine,
        "asset-clip",
        ref="r3",
        name=f"{Path(timeline.name).stem} shot {clip.shot + 1}",
        offset=_seconds(clip.start - first, timeline.rate),
        start=_seconds(timeline.begin + clip.start, timeline.rate),
        duration=_seconds(clip.stop - clip.start, timeline.rate),
        format="r1",
        tcFormat="DF" if timeline.drops else "NDF",
    )
    _add(element, "adjust-conform", type="fit")
    keys = [(frame, *_placement(crop, timeline.head)) for frame, crop in clip.keys]
    _frame, position, scale = keys[0]
    transform = _add(element, "adjust-transform", position=position, scale=scale)
    for place, name in ((1, "position"), (2, "scale")):
        if len({key[place] for key in keys}) > 1:
            animation = _add(_add(transform, "param", name=name), "keyframeAnimation")
            for key in keys:
                time = _seconds(timeline.begin + key[0], timeline.rate)
                _add(animation, "keyframe", time=time, value=str(key[place]))


def _seconds(frames: int, rate: Fraction) -> str:
    """A time as Final Cut Pro writes it: "1001/30000s"."""
    return f"{frames / rate}s"


def _placement(crop: Crop, head: PathFile) -> tuple[str, str]:
    """Position and scale of the picture behind the result's frame, so that it shows the crop.

    Position is in per cent of the frame's height from its centre, upwards; scale 1 is the picture
    that just fits into the frame. A crop of the result's shape fills the frame, however its sides
    are rounded.
    """
    picture, (width, height) = head.picture, head.size
    aspect = float(picture.sample_aspect)
    choose = max if fitted_size(crop.boxes[0], head) == head.size else min
    shown = choose(width / (crop.width * aspect), height / crop.height)
    fit = min(width / (picture.width * aspect), height / picture.height)
    right = (picture.width / 2 - crop.x - crop.width / 2) * aspect * shown
    up = (crop.y + crop.height / 2 - picture.height / 2) * shown
    position = f"{100 * right / height:.4f} {100 * up / height:.4f}".replace("-0.0000", "0.0000")
    return position, f"{shown / fit:.5f} {shown / fit:.5f}"


# ---- OpenTimelineIO


def _write_otio(place: Path, timeline: Timeline) -> None:
    import opentimelineio as otio

    text = otio.adapters.write_to_string(
        _otio(timeline, float(timeline.rate)), adapter_name="otio_json"
    )
    place.write_text(f"{text}\n", encoding="utf-8")


def _write_edl(place: Path, timeline: Timeline) -> None:
    """A CMX 3600 EDL; its clips are called like the video, by which editors find it."""
    import opentimelineio as otio

    drops = timeline.rate in _DROPPING and timeline.drops is not False
    # OpenTimelineIO skips numbers at 29.97 frames per second, and not at 30.
    rate = float(timeline.rate if drops else round(timeline.rate))
    made = _otio(timeline, rate)
    for clip, shot in zip(made.video_tracks()[0], timeline.clips, strict=True):
        clip.name = timeline.name
        boxes = (" ".join(f"{side:g}" for side in box) for box in _boxes(shot.keys[0][1]))
        moves = " THEN MOVES" if len(shot.keys) > 1 else ""
        comments = [f"SHOT {shot.shot + 1} CROP X Y W H: {' AND '.join(boxes)}{moves}"]
        clip.metadata["cmx_3600"] = {"reel": "AX", "comments": comments}
    text = otio.adapters.write_to_string(made, adapter_name="cmx_3600", rate=rate)
    title, _newline, events = text.partition("\n")
    count = "FCM: DROP FRAME" if drops else "FCM: NON-DROP FRAME"
    place.write_text(f"{title}\n{count}\n{events}", encoding="utf-8")


def _key(frame: int, crop: Crop) -> dict[str, Any]:
    """The box of a key frame, and that of a second panel, as the path file has them."""
    first, *others = (dict(zip("xywh", box, strict=True)) for box in _boxes(crop))
    return {"frame": frame, **first} | ({"second": others[0]} if others else {})


def _otio(timeline: Timeline, rate: float) -> Any:
    """The timeline as OpenTimelineIO has it, in frames at a rate."""
    import opentimelineio as otio

    def span(start: int, stop: int) -> Any:
        time = otio.opentime.RationalTime
        first = time(timeline.begin + start, rate)
        return otio.opentime.TimeRange(first, time(stop - start, rate))

    def clip(name: str, start: int, stop: int) -> Any:
        media = otio.schema.ExternalReference(timeline.url, span(0, timeline.clips[-1].stop))
        return otio.schema.Clip(name, media, span(start, stop))

    stem = Path(timeline.name).stem
    made = otio.schema.Timeline(f"{stem} {timeline.head.aspect}")
    made.metadata["avsal"] = {"size": list(timeline.head.size), "aspect": timeline.head.aspect}
    video = otio.schema.Track("Shots", kind=otio.schema.TrackKind.Video)
    for shot in timeline.clips:
        item = clip(f"{stem} shot {shot.shot + 1}", shot.start, shot.stop)
        keys = [_key(frame, crop) for frame, crop in shot.keys]
        item.effects.append(
            otio.schema.Effect("Crop", "avsal.crop", metadata={"avsal": {"keys": keys}})
        )
        video.append(item)
    made.tracks.append(video)
    if timeline.has_sound:
        sound = otio.schema.Track("Sound", kind=otio.schema.TrackKind.Audio)
        sound.append(clip(stem, timeline.clips[0].start, timeline.clips[-1].stop))
        made.tracks.append(sound)
    return made
