"""A tiny data set in the STAViS layout, made on the spot: a bright spot moves, people follow it."""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.io import savemat

SAMPLE_RATE = 16_000  # Hz
WIDTH, HEIGHT = 64, 48  # pixels, of frames and annotations alike
SIGMA = 4.0  # pixels, of the ground-truth maps


@dataclass(frozen=True)
class TreeVideo:
    """What is written for one video; videos differ by their seed alone.

    Attributes:
        unwatched: frames (from 0) on which nobody looked.
    """

    name: str
    seed: int
    frames: int = 18
    fps: str = "10"
    unwatched: tuple[int, ...] = (2, 5)


def spot(video: TreeVideo, index: int) -> tuple[float, float]:
    """Centre (x, y) of the bright spot in a frame, pixels."""
    angle = 0.3 * index + video.seed
    return WIDTH * (0.5 + 0.3 * np.cos(angle)), HEIGHT * (0.5 + 0.3 * np.sin(angle))


def picture(video: TreeVideo, index: int) -> np.ndarray:
    """A frame, uint8 (48, 64, 3) RGB."""
    x, y = spot(video, index)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    light = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 5.0**2))
    noise = np.random.default_rng([video.seed, index]).uniform(0, 40, (HEIGHT, WIDTH, 3))
    return np.clip(noise + 210 * light[..., None], 0, 255).astype(np.uint8)


def fixations(video: TreeVideo, index: int, people: int = 6) -> np.ndarray:
    """Where people looked, uint8 0/1 (48, 64)."""
    looked = np.zeros((HEIGHT, WIDTH), np.uint8)
    if index in video.unwatched:
        return looked
    x, y = spot(video, index)
    scatter = np.random.default_rng([video.seed, index, 1]).normal(0, 3, (people, 2))
    columns = np.clip(x + scatter[:, 0], 0, WIDTH - 1).astype(int)
    rows = np.clip(y + scatter[:, 1], 0, HEIGHT - 1).astype(int)
    looked[rows, columns] = 1
    return looked


def density(video: TreeVideo, index: int) -> np.ndarray:
    """The ground-truth map, uint8 (48, 64), peak 255; black where nobody looked."""
    blurred = cv2.GaussianBlur(fixations(video, index).astype(np.float32), (0, 0), SIGMA)
    return np.rint(255 * blurred / max(blurred.max(), 1e-9)).astype(np.uint8)


def write_video(root: Path, database: str, video: TreeVideo) -> None:
    """Write the frames, the sound and the annotations of one video."""
    frames = root / "video_frames" / database / video.name
    annotations = root / "annotations" / database / video.name
    (annotations / "maps").mkdir(parents=True, exist_ok=True)
    frames.mkdir(parents=True, exist_ok=True)
    for index in range(video.frames):
        number = f"{index + 1:05d}"
        bgr = picture(video, index)[..., ::-1]
        cv2.imwrite(str(frames / f"img_{number}.jpg"), bgr, [cv2.IMWRITE_JPEG_QUALITY, 98])
        cv2.imwrite(str(annotations / "maps" / f"eyeMap_{number}.jpg"), density(video, index))
        savemat(annotations / f"fixMap_{number}.mat", {"eyeMap": fixations(video, index)})
    write_sound(root / "video_audio" / database / video.name / f"{video.name}.wav", video)


def write_sound(path: Path, video: TreeVideo) -> None:
    """A tone whose pitch depends on the seed, 16 bit, mono, 16 kHz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(round(video.frames / float(video.fps) * SAMPLE_RATE)) / SAMPLE_RATE
    samples = 0.4 * np.sin(2 * np.pi * (300 + 100 * video.seed) * times)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())


def write_list(root: Path, database: str, part: str, fold: int, videos: list[TreeVideo]) -> None:
    """Write the list of a database's part; DIEM's has no fold in its name."""
    folder = root / "fold_lists"
    folder.mkdir(parents=True, exist_ok=True)
    number = "" if database == "DIEM" else f"_{fold}"
    lines = [f"{video.name} {video.frames} {video.fps}\n" for video in videos]
    (folder / f"{database}_list_{part}{number}_fps.txt").write_text("".join(lines))


def write_tree(root: Path, databases: tuple[str, ...] = ("DIEM", "SumMe")) -> list[TreeVideo]:
    """Write four videos a database: two to train and two to test, folds turn them around.

    Returns:
        The videos, the same in every database.
    """
    videos = [TreeVideo(f"clip_{seed}", seed) for seed in range(4)]
    for database in databases:
        for video in videos:
            write_video(root, database, video)
        for fold in (1, 2, 3):
            turned = videos[fold - 1 :] + videos[: fold - 1]
            if database == "DIEM":
                turned = videos
            write_list(root, database, "train", fold, turned[:2])
            write_list(root, database, "test", fold, turned[2:])
    return videos
