"""Shots: exact cuts, no cut in motion, exact times."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest
import samples

import avsal
from avsal import media
from avsal.media.frames import VideoFrame
from avsal.prediction.settings import OutputSettings, PredictSettings
from avsal.prediction.shots import (
    LOOK_AHEAD,
    Shot,
    ShotFinder,
    ShotNumbers,
    find_shots,
    shots_between,
)
from avsal.results.folder import read_result
from avsal.results.jobs import MapJob


def scene(seed: int, shift: int = 0) -> np.ndarray:
    """A picture of soft blobs in colours of its own, seen from a camera that pans by `shift`."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:72, :128]
    image = np.empty((72, 128, 3))
    for channel in range(3):
        x, y, size = random.uniform(0, 128), random.uniform(0, 72), random.uniform(15, 40)
        blob = np.exp(-(((columns + shift - x) / size) ** 2) - ((rows - y) / size) ** 2)
        image[..., channel] = 255 * (0.8 * blob + 0.2 * random.random())
    return image.astype(np.uint8)


def frames(images, times=None):
    times = times or [Fraction(i, 25) for i in range(len(images) + 1)]
    return [
        VideoFrame(i, times[i], times[i + 1] - times[i], image) for i, image in enumerate(images)
    ]


def test_cuts_are_found_to_the_frame_and_times_are_exact():
    images = [scene(seed, shift) for seed in range(4) for shift in range(9 + seed)]
    times = [Fraction(i * i, 1000) for i in range(len(images) + 1)]  # frame rate varies
    shots = find_shots(frames(images, times))
    assert [(shot.first, shot.last) for shot in shots] == [(0, 8), (9, 18), (19, 29), (30, 41)]
    assert [shot.start for shot in shots] == [times[i] for i in (0, 9, 19, 30)]
    assert [shot.end for shot in shots] == [times[i] for i in (9, 19, 30, 42)]


def test_fast_motion_is_no_cut():
    images = [scene(5, 30 * i) for i in range(20)]
    assert len(find_shots(frames(images))) == 1


def test_fades_from_and_to_black_are_no_cuts():
    """The first picture that is not black has other hues than black, and hardly more light."""
    levels = [0.0] * 8 + [level / 25 for level in range(1, 26)]
    images = [(scene(3) * level).astype(np.uint8) for level in [*levels, *reversed(levels)]]
    assert len(find_shots(frames(images))) == 1


def test_cuts_from_black_and_between_dark_pictures_are_found():
    dark = [scene(seed) // 4 for seed in (0, 1)]
    images = [np.zeros_like(dark[0])] * 9 + [scene(0)] * 9 + [dark[1]] * 9 + [dark[0]] * 9
    assert [shot.first for shot in find_shots(frames(images))] == [0, 9, 18, 27]


def test_repeated_frames_are_no_cuts():
    """12 pictures per second shown at 24: every second frame changes, the others not at all."""
    images = [scene(5, 30 * (i // 2)) for i in range(30)]
    assert len(find_shots(frames(images))) == 1


def test_a_cut_is_known_after_the_look_ahead():
    finder = ShotFinder()
    images = [scene(0)] * 10 + [scene(1)] * 10
    known = []
    for frame in frames(images):
        finder.add(frame.index + 100, frame.pts, frame.image)
        known.append([index for index, _pts in finder.changes])
    assert known[9 + LOOK_AHEAD] == []
    assert known[10 + LOOK_AHEAD] == [110]


def test_changes_follow_from_the_frames_around_them_alone():
    """Flashes every four frames: which of them are shots depends on the first, no change does."""
    images = [scene(1 if i % 4 else 2) for i in range(60)]

    def changes(first):
        finder = ShotFinder()
        for frame in frames(images)[first:]:
            finder.add(frame.index, frame.pts, frame.image)
        return finder

    whole, part = changes(0), changes(22)
    assert [change for change in whole.changes if change[0] > 24] == part.changes
    assert len(part.changes) > 10
    ends = (59, Fraction(60, 25))
    shots = [shots_between((first, 0), *ends, whole.changes) for first in (0, 22)]
    assert shots[1] == shots_between((22, 0), *ends, part.changes)
    assert shots[0][-1] != shots[1][-1]
    assert whole.last_change(0, 29) == whole.last_change(28, 31) == 29
    assert whole.last_change(30, 31) is None


def test_numbers_of_shots_are_those_of_their_list():
    cuts = [(index, Fraction(index)) for index in (1, 4, 8, 9, 10, 14, 22, 30, 31)]
    for first, last in ((0, 31), (0, 30), (4, 22), (9, 23), (31, 31)):
        listed = shots_between((first, Fraction(first)), last, Fraction(last + 1), cuts)
        numbers = ShotNumbers(cuts)
        found = [numbers.of(index) for index in range(first, last + 1)]
        assert found == [
            n for n, shot in enumerate(listed) for _ in range(shot.first, shot.last + 1)
        ]


@pytest.mark.parametrize("part", [(0.2, 0.96), (0.2, 1.0), (0.4, 1.2), (0.0, None)])
def test_shots_of_a_part_are_listed_as_its_frames_say(tiny, tiny_weights, tmp_path, part):
    """There are cuts at 0.48 and at 0.92 s: near the ends of some parts."""
    images = [scene(0)] * 12 + [scene(1)] * 11 + [scene(2)] * 9
    video = samples.write(tmp_path / "cut.mp4", samples.Pictures(images, rate=25))
    model = avsal.load_model(tiny, weights=tiny_weights, device="cpu")
    settings = PredictSettings(start=part[0], end=part[1])
    job = MapJob(model, settings, OutputSettings("npy"))
    job.write(model.predict(video, settings), tmp_path / "maps")
    listed = read_result(tmp_path / "maps").shots()
    spans = {}
    for frame in model.predict(video, settings):
        spans.setdefault(frame.shot, []).append(frame.index)
    assert [(shot.first, shot.last) for shot in listed] == [(s[0], s[-1]) for s in spans.values()]
    assert list(spans) == list(range(len(spans)))
    assert [shot.first for shot in listed[-2:]][1:] in ([23], [12])
    origin, end = Fraction(0), None if part[1] is None else Fraction(str(part[1]))
    with media.VideoReader(video, start=part[0], lead=LOOK_AHEAD) as again:
        found = find_shots(again, again.origin + Fraction(str(part[0])), end and origin + end)
    assert [(s.first, s.last) for s in found] == [(s.first, s.last) for s in listed]


def test_one_frame_is_one_shot():
    assert find_shots(frames([scene(0)])) == [Shot(0, 0, Fraction(0), Fraction(1, 25))]
    assert find_shots([]) == []


def test_shots_of_a_file(tmp_path):
    pictures = samples.Pictures([scene(0)] * 12 + [scene(1)] * 12, rate=24)
    with media.VideoReader(samples.write(tmp_path / "cut.mp4", pictures)) as video:
        shots = find_shots(video)
    assert [(shot.first, shot.last) for shot in shots] == [(0, 11), (12, 23)]
    assert shots[1].start == Fraction(1, 2)
    assert shots[1].end == 1


def test_changes_and_cuts_are_those_of_pyscenedetect():
    scenedetect = pytest.importorskip("scenedetect")
    detector = scenedetect.AdaptiveDetector(window_width=LOOK_AHEAD, min_scene_len=0)
    finder = ShotFinder()
    noise = np.random.default_rng(1)
    found = []
    for index in range(120):
        shown = scene(noise.integers(4) if noise.random() < 0.3 else 1, 3 * index)
        image = cv2.resize(shown, (160, 90), interpolation=cv2.INTER_AREA)
        time = scenedetect.FrameTimecode(index, 25.0)
        cuts = detector.process_frame(time, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        found += [cut.frame_num for cut in cuts]
        finder.add(index, Fraction(index), image)
        assert finder._scores[-1][0] == detector._frame_score
    assert [index for index, _pts in finder.changes] == found
    assert len(found) > 5
