"""Cache pictures of several aspect ratios, and train the visual streams on them.

    python weights/recipe/shapes.py cache --data DIR --pages PAGES --initial W -o runs/small/shapes
    python weights/recipe/shapes.py tune --cache runs/small/shapes --initial W -o runs/small/shaped

The image encoder, motion and sound are frozen. Pictures with recorded gaze are cropped to portrait,
square and wide ones around the gaze. For photographs, the teacher is the mean of W's own maps over
two scales and mirroring. PAGES is the folder that `pages.py` wrote.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from cache import pixels_of
from cached import SIGMA, cc, nss
from torch import nn
from train import follow, load, loss_of, save
from videos import blurred, open_at, read_gaze

from avsal.media import VideoReader, probe
from avsal.models.network import SaliencyNetwork, normalise

CELL = 32  # pixels of the coarsest features
SHAPES = ((7, 12), (8, 11), (9, 9), (11, 8), (12, 7), (6, 14))  # input (height, width) in cells
LARGE = 1.25  # factor of the teacher's second scale
RATIO = 1.2  # largest change of the aspect ratio by squeezing rather than cropping
FEWEST = 40  # fixations that a cropped picture must have
LISTS = Path(__file__).parent
GAZE = {"osie": (7, 12), "eyecrowd": (7, 12), "web": (7, 12)}
WHOLE = ("web", "pages", "silent", "gaze")  # kinds that are not cropped
SHARES = {"osie": 4, "eyecrowd": 3, "photos": 2, "pages": 3, "web": 2, "silent": 2, "gaze": 3}
Shape = tuple[int, int]


@dataclass
class Picture:
    """A picture that is cropped to a shape, and its gaze.

    Attributes:
        image: uint8 (H, W, 3) RGB.
        points: fixations (n, 2), relative to width and height; None if the target is `density`.
        density: (h, w), sums to 1; None if the targets are `points`.
    """

    name: str
    kind: str
    image: np.ndarray
    points: np.ndarray | None = None
    density: np.ndarray | None = None


def fitting(ratio: float) -> Shape:
    """Return the shape that is nearest to an aspect ratio."""
    return min(SHAPES, key=lambda shape: abs(np.log(shape[1] / shape[0] / ratio)))


@torch.inference_mode()
def still_density(network: SaliencyNetwork, image: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Predict the density (h, w) of a picture at a shape near its own."""
    shape = fitting(image.shape[1] / image.shape[0])
    size = round(shape[0] * scale) * CELL, round(shape[1] * scale) * CELL
    features = network.image_features(normalise(pixels_of(image, size)[None]))
    return log_density_of(network, features)[0].exp().numpy()


def log_density_of(network: SaliencyNetwork, features: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Return the log-densities (N, H, W) of stills' refined features (N, C, h, w)."""
    stride8, stride16, deep = features[:3]
    motion = network.visnet
    parts = [motion.get_submodule(f"{gate}_seen")(deep) for gate in ("reset", "update", "new")]
    held = torch.zeros_like(deep)
    for _ in range(network.frames):
        held = motion.step(held, *parts)
    change = motion.change(torch.zeros_like(stride16))
    volumes = (change[:, :, None], (deep + motion.recall(held))[:, :, None])
    found: torch.Tensor = network.decoder((stride8[:, None], stride16[:, None]), volumes)
    return found


def taught(network: SaliencyNetwork, image: np.ndarray) -> np.ndarray:
    """Return the teacher's density: the geometric mean over two scales and mirroring."""
    total: np.ndarray | None = None
    for scale in (1.0, LARGE):
        for mirrored in (False, True):
            seen = np.ascontiguousarray(image[:, ::-1]) if mirrored else image
            found = np.log(still_density(network, seen, scale))
            found = cv2.resize(
                found[:, ::-1] if mirrored else found, (image.shape[1], image.shape[0])
            )
            total = found if total is None else total + found
    density = np.exp(total / 4 - np.max(total / 4))  # type: ignore[operator]
    return density / density.sum()


def cut(picture: Picture, shape: Shape, random: np.random.Generator) -> Picture | None:
    """Crop a picture at random around its gaze to nearly a shape, and perhaps mirror it; None if
    too little is left."""
    image, density = picture.image, picture.density
    height, width = image.shape[:2]
    wanted = shape[1] / shape[0] * np.exp(random.uniform(-0.5, 0.5) * np.log(RATIO))
    wide, high = min(width, round(height * wanted)), min(height, round(width / wanted))
    middle = _middle(picture) * (width, height) + random.normal(0, 0.1, 2) * (wide, high)
    left, top = (
        int(np.clip(round(at - side / 2), 0, whole - side))
        for at, side, whole in zip(middle, (wide, high), (width, height), strict=True)
    )
    image = image[top : top + high, left : left + wide]
    points = picture.points
    if points is not None:
        points = (points * (width, height) - (left, top)) / (wide, high)
        points = points[((points >= 0) & (points < 1)).all(axis=1)]
        if len(points) < FEWEST:
            return None
    if density is not None:
        density = cv2.resize(density, (width, height))[top : top + high, left : left + wide]
    if random.random() < 0.5 and picture.kind not in ("web", "pages"):
        image = image[:, ::-1]
        points = None if points is None else np.column_stack([1 - points[:, 0], points[:, 1]])
        density = None if density is None else density[:, ::-1]
    return Picture(picture.name, picture.kind, np.ascontiguousarray(image), points, density)


def _middle(picture: Picture) -> np.ndarray:
    """Return the centre (x, y) of the gaze, relative to the picture."""
    if picture.points is not None:
        return np.median(picture.points, axis=0)
    weight = picture.density / picture.density.sum()  # type: ignore[operator, union-attr]
    rows = (weight.sum(axis=1) * np.linspace(0, 1, weight.shape[0])).sum()
    columns = (weight.sum(axis=0) * np.linspace(0, 1, weight.shape[1])).sum()
    return np.array([columns, rows])


def target(picture: Picture, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Return the fixations in each cell of 4x4 input pixels, and the density."""
    grid = shape[0] * CELL // 4, shape[1] * CELL // 4
    marks = np.zeros(grid, np.float32)
    if picture.points is None:
        density = cv2.resize(picture.density, grid[::-1], interpolation=cv2.INTER_AREA)
        return marks, density / density.sum()
    cells = np.clip((picture.points * grid[::-1]).astype(int), 0, (grid[1] - 1, grid[0] - 1))
    np.add.at(marks, (cells[:, 1], cells[:, 0]), 1)
    height, width = picture.image.shape[:2]
    longer = SIGMA * max(width, height)
    sigmas = longer / width * grid[1], longer / height * grid[0]
    density = cv2.GaussianBlur(
        marks, (0, 0), sigmaX=sigmas[0], sigmaY=sigmas[1], borderType=cv2.BORDER_CONSTANT
    )
    return marks, density / density.sum()


def read(path: Path, longest: int = 512) -> np.ndarray:
    """Read a picture, uint8 RGB, with a limit for its sides in pixels."""
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    scale = min(1.0, longest / max(image.shape))
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def with_gaze(data: Path, kind: str) -> Iterator[Picture]:
    """Yield the pictures of a set with recorded gaze."""
    with np.load(data / kind / "fixations.npz", allow_pickle=True) as file:
        names, fix = list(file["names"]), file["fix"]
    for number, name in enumerate(names):
        points = fix[fix[:, 0] == number][:, 2:4]
        points = points[((points >= 0) & (points < 1)).all(axis=1)]
        yield Picture(name, kind, read(data / kind / "images" / name), points)


def without_gaze(
    data: Path, network: SaliencyNetwork, pages: Path, count: int
) -> Iterator[Picture]:
    """Yield photographs, portraits first, with the teacher's maps, and pages with their maps."""
    files = sorted((data / "photos" / "images").glob("*.jpg"))
    images = sorted((read(each, 416) for each in files), key=lambda i: i.shape[1] / i.shape[0])
    upright = [image for image in images if image.shape[0] > image.shape[1]]
    for number, image in enumerate((upright + images[len(upright) :: 3])[:count]):
        yield Picture(str(number), "photos", image, density=taught(network, image))
    with np.load(pages / "density.npz") as file:
        for name in file:
            density = file[name].astype(np.float32)
            yield Picture(name, "pages", read(pages / name, 640), density=density)


def from_videos(
    data: Path, network: SaliencyNetwork, left_out: set[str], count: int
) -> Iterator[Picture]:
    """Frames of videos, whose maps the network keeps: a frame of every silent clip with its own
    map, `count` of every video with recorded gaze with half of what was looked at."""
    for path in sorted((data / "clips_silent" / "clips").glob("*.mp4"))[::2]:
        for image in _frames(path, [0.5]):
            yield Picture(path.name, "silent", image, density=still_density(network, image))
    gaze = read_gaze(data)
    for path in sorted((data / "video_gaze" / "videos").glob("*.mp4")):
        if path.stem in left_out:
            continue
        seconds = float(probe(path).duration or 0)
        times = [seconds * (number + 0.5) / count for number in range(count)]
        for at, image in zip(times, _frames(path, times), strict=False):
            own = still_density(network, image)
            points = open_at(gaze[path.stem], at)[:, 3:5]
            size = image.shape[1], image.shape[0]
            looked = cv2.resize(blurred(points, size), own.shape[::-1])
            density = own / own.sum() + looked / max(looked.sum(), 1e-9)
            yield Picture(path.name, "gaze", image, density=density / density.sum())


def _frames(path: Path, times: list[float]) -> Iterator[np.ndarray]:
    """Yield the first frame at or after each of several times in seconds."""
    waiting = list(times)
    with VideoReader(path) as video:
        for frame in video:
            if not waiting:
                return
            if float(frame.pts - video.origin) >= waiting[0]:
                waiting.pop(0)
                yield frame.image


def chosen(picture: Picture, held: bool, random: np.random.Generator) -> list[Shape]:
    """Choose the shapes at which a picture is cached."""
    own = fitting(picture.image.shape[1] / picture.image.shape[0])
    if held or picture.kind in WHOLE:
        return [own]
    if picture.kind == "photos":
        return [own if random.random() < 0.7 else SHAPES[0]]
    weights = np.array([3, 3, 1.5, 2, 2, 0.8])
    return [SHAPES[each] for each in random.choice(len(SHAPES), 1, p=weights / weights.sum())]


@torch.inference_mode()
def fill(given: argparse.Namespace) -> None:
    """Write the features and targets of all pictures, one file per picture and shape."""
    network, random = load(given.initial), np.random.default_rng(1)
    given.output.mkdir(parents=True, exist_ok=True)
    held_names = {
        kind: set((LISTS / f"{kind}-validation.txt").read_text().split())
        for kind in ("osie", "eyecrowd")
    }
    rows, begun = [], time.monotonic()
    if given.videos:
        rows = json.loads((given.output / "index.json").read_text())
        left_out = set(given.leave_out.read_text().split()) if given.leave_out else set()
        sources = [from_videos(given.data, network, left_out, given.videos)]
    else:
        sources = [with_gaze(given.data, kind) for kind in GAZE]
        sources.append(without_gaze(given.data, network, given.pages, given.photos))
    for picture in (each for source in sources for each in source):
        held = picture.name in held_names.get(picture.kind, ())
        skipped = 0.6 if held else given.skipped if picture.kind in ("osie", "eyecrowd") else 0.0
        if random.random() < skipped:
            continue
        for shape in chosen(picture, held, random):
            own = (
                picture if held or picture.kind in ("web", "pages") else cut(picture, shape, random)
            )
            if own is None:
                continue
            frame = pixels_of(own.image, (shape[0] * CELL, shape[1] * CELL))
            with torch.autocast("cpu", torch.bfloat16):
                features = network.image_encoder.encoder(normalise(frame[None]))
            marks, density = target(own, shape)
            entry = {
                "features": [each[0].to(torch.bfloat16).clone() for each in features],
                "marks": torch.from_numpy(marks),
                "density": torch.from_numpy(np.ascontiguousarray(density, dtype=np.float32)),
            }
            torch.save(entry, given.output / f"{len(rows):05d}.pt")
            rows.append((picture.kind, picture.name, held, shape, own.points is not None))
        if len(rows) % 100 == 0:
            print(len(rows), picture.kind, f"{time.monotonic() - begun:.0f}s", flush=True)
            (given.output / "index.json").write_text(json.dumps(rows))
    (given.output / "index.json").write_text(json.dumps(rows))


def any_of(words: list[str], kind: str, name: str) -> bool:
    """Return whether one of the words is the picture's kind, web site or file name."""
    site = name.split("_")[1] if kind == "web" else kind
    return not {kind, site, Path(name).stem}.isdisjoint(words)


class Shaped:
    """The cached pictures: `held` are scored, and `rows`, of the others, are trained on."""

    def __init__(self, folder: Path, without: list[str], held: list[str]) -> None:
        self.folder = folder
        self.rows, self.held = [], []
        for number, (kind, name, split, shape, real) in enumerate(
            json.loads((folder / "index.json").read_text())
        ):
            row = number, kind, name, tuple(shape), real
            if split or any_of(held, kind, name):
                self.held.append(row)
            elif not any_of(without, kind, name):
                self.rows.append(row)

    def load(
        self, numbers: list[int]
    ) -> tuple[tuple[torch.Tensor, ...], torch.Tensor, torch.Tensor]:
        """Read the encoder features, densities and marks of pictures of one shape."""
        entries = [torch.load(self.folder / f"{number:05d}.pt") for number in numbers]
        features = tuple(
            torch.stack(each).float()
            for each in zip(*(e["features"] for e in entries), strict=True)
        )
        density = torch.stack([entry["density"] for entry in entries])
        return features, density, torch.stack([entry["marks"] for entry in entries])


def pooled(log_density: torch.Tensor) -> torch.Tensor:
    """Log-densities (N, H, W) on cells of 4x4 pixels."""
    return torch.log(F.avg_pool2d(log_density.float().exp()[:, None], 4)[:, 0] * 16 + 1e-9)


@dataclass
class Targets:
    """Make the batch that `loss_of` needs."""

    density: torch.Tensor
    marks: torch.Tensor
    real: torch.Tensor


def trained(network: SaliencyNetwork) -> list[tuple[str, nn.Parameter]]:
    """Return the parameters from the encoder's features to the map, without motion and sound."""
    fixed = ("image_encoder.encoder.", "audnet.", "aud_vis_sync_block.", "visnet.")
    fixed += ("decoder.listen.", "decoder.habit.")
    return [(n, p) for n, p in network.named_parameters() if not n.startswith(fixed)]


@torch.inference_mode()
def scores(network: SaliencyNetwork, data: Shaped) -> dict[str, list[float]]:
    """Return the mean NSS and CC of the held-out pictures, by kind."""
    result: dict[str, list[tuple[float, float]]] = {}
    for number, kind, _, _, real in data.held:
        features, density, marks = data.load([number])
        found = pooled(log_density_of(network, network.image_encoder.refine(features)))
        found = found[0].exp().numpy()
        looked = nss(found, marks[0].numpy()) if real else float("nan")
        row = looked, cc(found, density[0].numpy())
        result.setdefault(kind, []).append(row)
    return {
        kind: [round(float(each), 4) for each in (*np.mean(rows, axis=0), len(rows))]
        for kind, rows in result.items()
    }


def drawn(data: Shaped, random: np.random.Generator, count: int) -> list[tuple[int, bool]]:
    """Draw a batch of pictures of one shape; each kind has its share."""
    shape = data.rows[int(random.integers(len(data.rows)))][3]
    own = [row for row in data.rows if row[3] == shape]
    sizes = {kind: sum(row[1] == kind for row in own) for kind in SHARES}
    weights = np.array([SHARES[row[1]] / sizes[row[1]] for row in own])
    picked = random.choice(len(own), count, p=weights / weights.sum())
    return [(own[each][0], own[each][4]) for each in picked]


def tune(given: argparse.Namespace) -> None:
    """Train, and write the moving average."""
    torch.manual_seed(given.seed)
    random = np.random.default_rng(given.seed)
    data = Shaped(given.cache, given.without, given.held)
    network = load(given.initial)
    average = copy.deepcopy(network)
    parts = trained(network)
    network.requires_grad_(False)
    for _, parameter in parts:
        parameter.requires_grad_(True)
    optimiser = torch.optim.AdamW([p for _, p in parts], lr=given.rate, weight_decay=1e-3)
    kept = dict(average.named_parameters())
    given.output.mkdir(parents=True, exist_ok=True)
    losses, begun = [], time.monotonic()
    print(0, scores(average, data), flush=True)
    for step in range(1, given.steps + 1):
        decay = 0.5 * (1 + np.cos(np.pi * step / given.steps)) * 0.95 + 0.05
        optimiser.param_groups[0]["lr"] = given.rate * min(1, step / 10) * decay
        picked = drawn(data, random, given.batch)
        features, density, marks = data.load([number for number, _ in picked])
        with torch.autocast("cpu", torch.bfloat16):
            found = log_density_of(network, network.image_encoder.refine(features))
        batch = Targets(density, marks, torch.tensor([real for _, real in picked]))
        loss = loss_of(pooled(found), batch)  # type: ignore[arg-type]
        loss.backward()
        nn.utils.clip_grad_norm_([p for _, p in parts], 2.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        follow(kept, parts, step)
        losses.append(float(loss.detach()))
        if step % given.every == 0 or step == given.steps:
            save(given.output / "last.safetensors", average)
            mean = f"{np.mean(losses[-given.every :]):.4f}"
            seconds = f"{time.monotonic() - begun:.0f}s"
            print(step, mean, scores(average, data), seconds, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("what", choices=("cache", "tune"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--pages", type=Path)
    parser.add_argument("--photos", type=int, default=300)
    parser.add_argument(
        "--videos", type=int, default=0, help="only add this number of frames of every video"
    )
    parser.add_argument("--leave-out", type=Path, help="list of videos that are not used")
    parser.add_argument("--skipped", type=float, default=0.0, help="share of pictures left out")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--initial", type=Path, required=True)
    words = "kinds, web sites or file names that are not trained on"
    for name, more in (("--without", ""), ("--held", ", but scored")):
        parser.add_argument(name, nargs="*", default=[], help=words + more)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--every", type=int, default=40)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    (fill if given.what == "cache" else tune)(given)


if __name__ == "__main__":
    main()
