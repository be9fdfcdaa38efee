"""Faces in videos, and how much each of them talks, by LR-ASD: what `talk.py` learns from.

    python weights/recipe/faces.py VIDEO... --wheel UNPACKED --asd LR-ASD -o runs/small/faces

UNPACKED is the wheel of pyautoflip 0.2.1, unzipped, for its BlazeFace; LR-ASD a copy of the
repository Junhua-Liao/LR-ASD (MIT), for `model/` and `weight/finetuning_TalkSet.model`. Of its
network only the part that looks is used: it judges from the mouth alone, at 25 frames a second.
Each video becomes a file: small frames 0.16 s apart, the boxes of the faces that stay, and their
scores, which are above 0 where a face talks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from avsal.media import VideoReader

RATE, KEPT = 25.0, 4  # frames a second that are judged, and every n-th that is kept
LONGEST = 384  # pixels of a side of what is kept
BLAZE = Path("pyautoflip", "detection", "blaze_face_short_range.tflite")
SIDE = 128  # of BlazeFace's input
TILES = (1.0, 0.55)  # sides of the squares in which faces are looked for, of the height
SURE = 1.2  # a detection's score, which grows with the number of overlapping ones
EVERY = 5  # frames between detections
LOST = 50  # frames after which a face that is not found again is another one
FEWEST = 75  # frames that a face stays, or a quarter of the video
BEFORE, AFTER = 12, 6  # frames that a score is the mean of
FACE = 112  # pixels of a side of LR-ASD's input
CHUNK = 75  # frames that it judges together

Boxes = np.ndarray  # rows of left, top, right, bottom in pixels


def frames_of(path: Path, longest: float) -> list[np.ndarray]:
    """Frames at RATE."""
    frames: list[np.ndarray] = []
    with VideoReader(path) as video:
        for frame in video:
            seconds = float(frame.pts - video.origin)
            if seconds > longest:
                break
            while len(frames) / RATE <= seconds + float(frame.duration) / 2:
                frames.append(frame.image)
    return frames


class Detector:
    """BlazeFace on overlapping squares of a picture."""

    def __init__(self, wheel: Path) -> None:
        self.network = cv2.dnn.readNetFromTFLite(str(wheel / BLAZE), cv2.dnn.ENGINE_CLASSIC)
        anchors = []
        for cells, count in ((16, 2), (8, 6)):
            for y, x in product(range(cells), repeat=2):
                anchors += [((x + 0.5) / cells, (y + 0.5) / cells)] * count
        self.anchors = np.array(anchors)

    def square(self, crop: np.ndarray) -> tuple[Boxes, np.ndarray]:
        """Boxes, in shares of a crop, and probabilities."""
        blob = cv2.dnn.blobFromImage(crop, 1 / 127.5, (SIDE, SIDE), (127.5,) * 3)
        self.network.setInput(blob)
        logits, found = self.network.forward(["classificators", "regressors"])
        sure = 1 / (1 + np.exp(-np.clip(logits.ravel(), -50, 50)))
        kept = sure > 0.5
        found = found.reshape(-1, 16)[kept] / SIDE
        middle, half = self.anchors[kept] + found[:, :2], found[:, 2:4] / 2
        return np.concatenate((middle - half, middle + half), axis=1), sure[kept]

    def faces(self, image: np.ndarray) -> Boxes:
        """Boxes of the faces in a picture."""
        boxes, scores = [np.zeros((0, 4))], [np.zeros(0)]
        for left, top, side in _squares(*image.shape[:2]):
            crop = image[top : top + side, left : left + side]
            found, sure = self.square(crop)
            high, wide = crop.shape[:2]
            boxes.append(found * (wide, high, wide, high) + (left, top, left, top))
            scores.append(sure)
        return _merged(np.concatenate(boxes), np.concatenate(scores))


def _squares(height: int, width: int) -> Iterator[tuple[int, int, int]]:
    for share in TILES:
        side = round(height * share)
        starts = []
        for whole in (width, height):
            count = max(1, int(np.ceil((whole - side) / (side * 0.5))) + 1)
            starts.append(np.linspace(0, max(0, whole - side), count).round().astype(int))
        yield from ((left, top, side) for left, top in product(*starts))


def _merged(boxes: Boxes, scores: np.ndarray) -> Boxes:
    """One box for all that overlap, where enough do."""
    result, free = [], np.ones(len(boxes), bool)
    for best in np.argsort(-scores):
        if free[best]:
            same = free & (overlap(boxes[best], boxes) > 0.3)
            free &= ~same
            if scores[best] + 0.05 * same.sum() > SURE:
                result.append(np.average(boxes[same], axis=0, weights=scores[same]))
    return np.array(result).reshape(-1, 4)


def overlap(box: np.ndarray, boxes: Boxes) -> np.ndarray:
    """Intersection over union of a box with others."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    common = np.clip(sides, 0, None).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    return common / (areas - common)


def tracks(frames: list[np.ndarray], detector: Detector) -> Iterator[tuple[Boxes, np.ndarray]]:
    """For each face that stays, its box in every frame and whether it is there."""
    found: list[list[tuple[int, np.ndarray]]] = []
    for number in range(0, len(frames), EVERY):
        free = list(detector.faces(frames[number]))
        for track in found:
            seen, last = track[-1]
            if not free or number - seen > LOST:
                continue
            moves = [np.hypot(*(last[:2] + last[2:] - box[:2] - box[2:])) / 2 for box in free]
            nearest = int(np.argmin(moves))
            if moves[nearest] < 0.6 * (free[nearest][2] - free[nearest][0]):
                track.append((number, free.pop(nearest)))
        found += [[(number, box)] for box in free]
    every = np.arange(len(frames))
    for track in found:
        if len(track) * EVERY > min(FEWEST, len(frames) / 4):
            numbers, boxes = (np.array(each) for each in zip(*track, strict=True))
            columns = [np.interp(every, numbers, column) for column in boxes.T]
            yield np.stack(columns, axis=1), (every >= numbers[0]) & (every <= numbers[-1])


class Judge:
    """The part of LR-ASD that looks at a face."""

    def __init__(self, folder: Path) -> None:
        sys.path.insert(0, str(folder))
        from model.Model import ASD_Model  # type: ignore[import-not-found]

        weights = folder / "weight" / "finetuning_TalkSet.model"
        state = torch.load(weights, map_location="cpu", weights_only=True)
        self.network: nn.Module = ASD_Model()
        own = {name[6:]: t for name, t in state.items() if name.startswith("model.")}
        self.network.load_state_dict(own)
        self.network.eval()
        self.weight, self.bias = state["lossV.FC.weight"], state["lossV.FC.bias"]

    @torch.inference_mode()
    def scores(self, frames: list[np.ndarray], boxes: Boxes) -> np.ndarray:
        """How much a face talks in each frame."""
        faces = torch.from_numpy(np.stack([*map(self.face, frames, boxes)])).float()
        parts = []
        for chunk in faces.split(CHUNK):
            seen = self.network.forward_visual_frontend(chunk[None])  # type: ignore[operator]
            silent, talks = (seen.reshape(-1, 128) @ self.weight.T + self.bias).T
            parts.append(talks - silent)
        found = torch.cat(parts).numpy()
        spans = [slice(max(0, at - BEFORE), at + AFTER) for at in range(len(found))]
        return np.array([found[span].mean() for span in spans])

    @staticmethod
    def face(image: np.ndarray, box: np.ndarray) -> np.ndarray:
        """The gray face as LR-ASD was trained on it: 1.4 times the box, its middle a little low."""
        half = max(box[2:] - box[:2]) / 2
        left, top = (box[:2] + box[2:]) / 2 - (0.7 * half, 0.3 * half)
        scale = FACE / (1.4 * half)
        matrix = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        return cv2.warpAffine(gray, matrix, (FACE, FACE), borderValue=110)


def read(path: Path, detector: Detector, judge: Judge, longest: float, output: Path) -> None:
    """Write a video's file, if faces stay in it."""
    frames = frames_of(path, longest)
    found = list(tracks(frames, detector))
    if not found:
        return
    height, width = frames[0].shape[:2]
    scale = min(1.0, LONGEST / max(height, width))
    size = round(width * scale), round(height * scale)
    small = [cv2.resize(each, size, interpolation=cv2.INTER_AREA) for each in frames[::KEPT]]
    talks = [judge.scores(frames, boxes)[::KEPT] for boxes, _ in found]
    np.savez(
        output / f"{path.stem}.npz",
        frames=np.stack(small),
        boxes=np.stack([boxes[::KEPT] for boxes, _ in found]) / ((width, height) * 2),
        present=np.stack([present[::KEPT] for _, present in found]),
        talks=np.stack(talks),
    )
    print(path.stem, len(frames), np.round([each.mean() for each in talks], 2), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--wheel", type=Path, required=True)
    parser.add_argument("--asd", type=Path, required=True)
    parser.add_argument("--longest", type=float, default=6.0, help="seconds of a video")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    detector, judge = Detector(given.wheel), Judge(given.asd)
    for path in given.videos:
        read(path, detector, judge, given.longest, given.output)


if __name__ == "__main__":
    main()
