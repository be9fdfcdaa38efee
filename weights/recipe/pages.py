"""Draw pages, slides, lower thirds and interfaces, with synthetic gaze.

    python weights/recipe/pages.py --photos DIR --initial W --count 480 -o OUT

No gaze was recorded on these pictures. The targets follow what is known about reading: large text
gets more gaze than small text, the beginning of a line more than its end, the top more than the
bottom, the centre more than the sides; buttons attract gaze; in photographs, the targets are the
maps of the weights W. OUT contains the pictures and `density.npz`, a float16 map for each, in cells
of 4x4 pixels of the network's input.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from cached import SIGMA
from PIL import Image, ImageDraw, ImageFont
from shapes import still_density
from train import load

SIZES = ((1280, 720), (1280, 720), (1280, 640), (1024, 768), (720, 1280), (800, 1000))
FOLDER = Path("/usr/share/fonts/truetype/dejavu")
FONTS = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf")
WORDS = (
    "the of and to in for with market open today report water city light people found energy "
    "small history price world music garden river season study team award energy model travel "
    "future school public record health story science events order contact about visit free new "
    "programme tickets members research online company design video camera phone summer winter"
).split()
INKS = ((30, 30, 30), (20, 40, 90), (90, 20, 20), (60, 60, 60))
PAPERS = ((255, 255, 255), (248, 247, 243), (235, 240, 246), (228, 236, 222))
ACCENTS = ((200, 16, 46), (0, 98, 180), (20, 130, 80), (240, 130, 20), (90, 60, 160))
GRID = 4  # side of a target cell in pixels of the network's input

Box = tuple[int, int, int, int]  # left, top, right, bottom


class Page:
    """A picture that is being drawn, and the gaze on each of its pixels."""

    def __init__(self, size: tuple[int, int], random: np.random.Generator, dark: bool) -> None:
        self.random, self.size = random, size
        papers = tuple(tuple(255 - each for each in paper) for paper in PAPERS)
        self.paper = self.pick(papers if dark else PAPERS)
        self.ink = self.pick(PAPERS if dark else INKS)
        self.accent = self.pick(ACCENTS)
        self.image = Image.new("RGB", size, self.paper)
        self.draw = ImageDraw.Draw(self.image)
        self.gaze = np.zeros((size[1], size[0]), np.float32)
        self.face = str(FOLDER / FONTS[int(random.integers(2)) * 2])
        self.bold = self.face.replace(".ttf", "-Bold.ttf")

    def pick(self, choices):  # type: ignore[no-untyped-def]
        """One of several, at random."""
        return choices[int(self.random.integers(len(choices)))]

    def words(self, count: int) -> str:
        """A phrase."""
        chosen = [self.pick(WORDS) for _ in range(max(1, count))]
        return " ".join(chosen).capitalize()

    def look(self, box: Box, mass: float, left: float = 1.0) -> None:
        """Spread `mass` over a box; its left end is `left` times as dense as its right end."""
        x0, y0, x1, y1 = (max(0, each) for each in box)
        part = self.gaze[y0:y1, x0:x1]
        if part.size:
            across = np.linspace(left, 1, part.shape[1], dtype=np.float32)
            part += mass * across / (across.sum() * part.shape[0])

    def line(
        self,
        place: tuple[int, int],
        text: str,
        height: int,
        colour: object = None,
        bold: bool = False,
        weight: float = 1.0,
    ) -> Box:
        """Draw a line of text; its mass grows with its length and, faster, with its height."""
        font = ImageFont.truetype(self.bold if bold else self.face, height)
        self.draw.text(place, text, colour or self.ink, font)
        box = tuple(int(each) for each in self.draw.textbbox(place, text, font))
        length = (box[2] - box[0]) / max(self.size)
        size = height / max(self.size)
        self.look(box, weight * length**0.6 * (size / 0.015) ** 0.7, 2.5)  # type: ignore[arg-type]
        return box  # type: ignore[return-value]

    def block(self, box: Box, height: int, weight: float = 0.45) -> int:
        """Draw lines of text in a box and return where they end. The first ones are read most."""
        y, number = box[1], 0
        while y + height < box[3]:
            count = max(1, int((box[2] - box[0]) / (height * 3.4)))
            if self.random.random() < 0.15:
                count = max(1, count // 2)
            self.line((box[0], y), self.words(count), height, weight=weight * 0.85**number)
            y, number = y + int(height * 1.5), number + 1
        return y

    def photo(self, box: Box, image: np.ndarray, density: np.ndarray, mass: float) -> None:
        """Paste a photograph; its gaze is distributed as in its map."""
        width, height = box[2] - box[0], box[3] - box[1]
        if min(width, height) < 8:
            return
        picture, map_ = cropped(image, density, width / height)
        resized = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        self.image.paste(Image.fromarray(resized), box[:2])
        found = cv2.resize(map_, (width, height))
        part = self.gaze[max(0, box[1]) : box[3], max(0, box[0]) : box[2]]
        part += (mass * found / max(found.sum(), 1e-9))[: part.shape[0], : part.shape[1]]

    def button(self, place: tuple[int, int], height: int) -> Box:
        """Draw a button with its label."""
        text = self.words(int(self.random.integers(1, 3)))
        font = ImageFont.truetype(self.bold, height)
        width = int(self.draw.textlength(text, font)) + 2 * height
        box = (place[0], place[1], place[0] + width, place[1] + 2 * height)
        self.draw.rounded_rectangle(box, radius=int(self.pick((2, height))), fill=self.accent)
        self.draw.text((place[0] + height, place[1] + height // 2), text, (255, 255, 255), font)
        self.look(box, 0.9 * (height / max(self.size) / 0.015) ** 0.7, 1.3)
        return box

    def density(self, cells: tuple[int, int]) -> np.ndarray:
        """Return the target on (rows, columns) of cells, which sums to 1: the gaze on what was
        drawn, weighted by a centre bias and by the reading order down the page."""
        rows = np.linspace(0, 1, cells[0], dtype=np.float32)[:, None]
        columns = np.linspace(0, 1, cells[1], dtype=np.float32)[None]
        gaze = cv2.resize(self.gaze, cells[::-1], interpolation=cv2.INTER_AREA)
        middle = np.exp(-(((columns - 0.46) / 0.3) ** 2) / 2) * np.exp(-((rows / 0.75) ** 2) / 2)
        blurred = cv2.GaussianBlur(gaze * (0.25 + middle), (0, 0), SIGMA * max(cells))
        middle = np.exp(-(((columns - 0.47) / 0.2) ** 2 + ((rows - 0.42) / 0.25) ** 2) / 2)
        return 0.85 * blurred / blurred.sum() + 0.15 * middle / middle.sum()


def cropped(image: np.ndarray, density: np.ndarray, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """Crop the centre of a picture and of its map to an aspect ratio."""
    result = []
    for each in (image, density):
        height, width = each.shape[:2]
        wide, high = min(width, round(height * ratio)), min(height, round(width / ratio))
        left, top = (width - wide) // 2, (height - high) // 2
        result.append(each[top : top + max(1, high), left : left + max(1, wide)])
    return result[0], result[1]


Photos = Callable[[], tuple[np.ndarray, np.ndarray]]


def site(page: Page, photos: Photos) -> None:
    """Draw a page with a bar, a heading, pictures next to text and a button; perhaps scrolled."""
    width, height = page.size
    unit, random = max(page.size) // 64, page.random
    y = 0
    if random.random() < 0.6:
        bar = page.accent if random.random() < 0.4 else page.paper
        page.draw.rectangle((0, 0, width, 3 * unit), fill=bar)
        x = int(width * random.uniform(0.02, 0.15))
        page.line((x, unit), page.words(1), unit + 4, bold=True, weight=0.8)
        for number in range(int(random.integers(2, 6))):
            x = int(width * 0.35) + number * int(width * 0.12)
            page.line((x, unit), page.words(1), unit - 2, weight=0.3)
        y = 4 * unit
    margin = int(width * random.uniform(0.06, 0.2))
    if random.random() < 0.5:
        bottom = y + int(height * random.uniform(0.3, 0.6))
        page.photo((margin, y, width - margin, bottom), *photos(), 2.2)
        if random.random() < 0.6:
            place = (margin + 2 * unit, bottom - 8 * unit)
            page.line(place, page.words(3), 3 * unit, (255, 255, 255), True, 1.3)
            page.button((margin + 2 * unit, bottom - 4 * unit), unit)
        y = bottom + 2 * unit
    while y < height:
        y = page.pick((heading, cards, beside))(page, photos, (margin, y, width - margin, height))


def heading(page: Page, _photos: Photos, room: Box) -> int:
    """Draw a heading, text below it, and perhaps a button."""
    unit = max(page.size) // 64
    size = int(unit * page.random.uniform(1.6, 3.4))
    count = max(2, (room[2] - room[0]) // (size * 5))
    page.line(room[:2], page.words(min(count, 6)), size, bold=True, weight=1.2)
    bottom = room[1] + int(size * 1.6)
    end = bottom + int(unit * page.random.uniform(4, 14))
    y = page.block((room[0], bottom, room[2], end), page.random.integers(unit - 4, unit + 2))
    if page.random.random() < 0.5:
        y = page.button((room[0], y + unit // 2), unit)[3]
    return y + 2 * unit


def cards(page: Page, photos: Photos, room: Box) -> int:
    """Draw two to four cards in a row, each with a picture, a title and text."""
    unit = max(page.size) // 64
    count = int(page.random.integers(2, 5)) if page.size[0] > page.size[1] else 2
    width = (room[2] - room[0]) // count
    tall, pictured = int(width * page.random.uniform(0.4, 0.8)), page.random.random() < 0.8
    y = room[1]
    for number in range(count):
        x, y = room[0] + number * width, room[1]
        if pictured:
            page.photo((x, y, x + width - unit, y + tall), *photos(), 0.9)
            y += tall + unit // 2
        page.line((x, y), page.words(2), unit + 3, bold=True, weight=0.8)
        y = page.block((x, y + 2 * unit, x + width - unit, y + 7 * unit), unit - 3, 0.3)
    return y + 2 * unit


def beside(page: Page, photos: Photos, room: Box) -> int:
    """Draw a picture next to text."""
    unit, middle = max(page.size) // 64, (room[0] + room[2]) // 2
    tall = int((middle - room[0]) * page.random.uniform(0.5, 0.9))
    left = page.random.random() < 0.5
    sides = (room[0], middle - unit), (middle + unit, room[2])
    picture, text = sides if left else sides[::-1]
    page.photo((picture[0], room[1], picture[1], room[1] + tall), *photos(), 1.3)
    page.line((text[0], room[1]), page.words(3), unit * 2, bold=True)
    page.block((text[0], room[1] + 3 * unit, text[1], room[1] + tall), unit - 2, 0.4)
    return room[1] + tall + 2 * unit


def slide(page: Page, photos: Photos) -> None:
    """Draw a title, then bullet points, a picture or a chart."""
    width, height = page.size
    unit = max(page.size) // 64
    page.line((3 * unit, 2 * unit), page.words(4), int(3.2 * unit), page.accent, True, 1.4)
    half = width // 2 if page.random.random() < 0.6 else width - 3 * unit
    y, number = 9 * unit, 0
    while y < height - 6 * unit and number < int(page.random.integers(3, 8)):
        page.draw.ellipse((3 * unit, y + unit // 2, 3 * unit + 8, y + unit // 2 + 8), page.accent)
        count = max(2, half // (unit * 10))
        page.line((5 * unit, y), page.words(count), 2 * unit, weight=0.7 * 0.9**number)
        y, number = y + 4 * unit, number + 1
    if half == width // 2:
        box = (half + unit, 9 * unit, width - 3 * unit, height - 5 * unit)
        if page.random.random() < 0.5:
            page.photo(box, *photos(), 2.5)
        else:
            chart(page, box)


def chart(page: Page, box: Box) -> None:
    """Draw a bar chart; the gaze is on the tops of the bars, the title and the labels."""
    unit, count = max(page.size) // 64, int(page.random.integers(3, 9))
    page.line((box[0], box[1] - 2 * unit), page.words(3), unit + 4, weight=0.8)
    step = (box[2] - box[0]) // count
    for number in range(count):
        left, top = box[0] + number * step, int(page.random.integers(box[1], box[3]))
        page.draw.rectangle((left, top, left + step * 2 // 3, box[3]), page.pick(ACCENTS))
        page.look((left, top - unit, left + step * 2 // 3, top + 2 * unit), 0.35)
        page.line((left, box[3] + 4), page.words(1), unit - 3, weight=0.25)


def lower_third(page: Page, photos: Photos) -> None:
    """Draw a full-frame photograph with a banner for a name, or with subtitles."""
    width, height = page.size
    unit = max(page.size) // 64
    page.photo((0, 0, width, height), *photos(), 7.0)
    y = int(height * page.random.uniform(0.74, 0.86))
    if page.random.random() < 0.6:
        page.draw.rectangle((2 * unit, y, int(width * 0.6), y + 5 * unit), fill=page.accent)
        page.line((3 * unit, y + unit // 2), page.words(2), 2 * unit, (255, 255, 255), True)
        page.line((3 * unit, y + 3 * unit), page.words(3), unit + 2, (255, 255, 255))
    else:
        text = page.words(max(2, width // (unit * 12)))
        page.line((width // 6, y + unit), text, int(2.2 * unit), (255, 255, 255), True, 1.4)


def interface(page: Page, photos: Photos) -> None:
    """Draw an application: a side list, a table or a form with buttons, perhaps a dialogue."""
    width, height = page.size
    unit = max(page.size) // 64
    side = width // 5 if width > height else 0
    page.draw.rectangle((0, 0, width, 2 * unit), fill=page.accent)
    for number in range(8 if side else 0):
        page.line((unit, (4 + 3 * number) * unit), page.words(2), unit, weight=0.3 * 0.9**number)
    x, y = side + 2 * unit, 4 * unit
    page.line((x, y), page.words(3), 2 * unit, bold=True)
    y += 4 * unit
    while y < height - 6 * unit:
        for column in range(3):
            at = (x + column * (width - side) // 3, y)
            page.line(at, page.words(2), unit, weight=0.35)
        page.draw.line((x, y + 2 * unit, width - unit, y + 2 * unit), fill=(180, 180, 180))
        y += 3 * unit
    page.button((x, height - 3 * unit), unit)
    if page.random.random() < 0.4:
        box = (width // 4, height // 3, width * 3 // 4, height * 2 // 3)
        page.gaze *= 0.3
        page.draw.rectangle(box, fill=page.paper, outline=page.ink)
        page.line((box[0] + unit, box[1] + unit), page.words(3), 2 * unit, bold=True, weight=1.5)
        page.block((box[0] + unit, box[1] + 5 * unit, box[2] - unit, box[3] - 4 * unit), unit)
        page.button((box[0] + unit, box[3] - 3 * unit), unit)


KINDS = (site, site, site, slide, lower_third, interface)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--initial", type=Path, required=True)
    parser.add_argument("--count", type=int, default=480)
    parser.add_argument("--thin", type=int, default=8, help="use every n-th photograph")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    network, random = load(given.initial), np.random.default_rng(0)
    files = sorted(given.photos.glob("*.jpg"))[:: given.thin]

    @cache
    def seen(number: int) -> tuple[np.ndarray, np.ndarray]:
        image = cv2.cvtColor(cv2.imread(str(files[number])), cv2.COLOR_BGR2RGB)
        return image, still_density(network, image)

    def photos() -> tuple[np.ndarray, np.ndarray]:
        return seen(int(random.integers(len(files))))

    given.output.mkdir(parents=True, exist_ok=True)
    found = {}
    for number in range(given.count):
        size = SIZES[int(random.integers(len(SIZES)))]
        page = Page(size, random, dark=random.random() < 0.2)
        page.pick(KINDS)(page, photos)
        name = f"{number:04d}.jpg"
        small = page.image.resize((size[0] // 2, size[1] // 2), Image.Resampling.LANCZOS)
        small.save(given.output / name, quality=92)
        found[name] = page.density((size[1] // 8, size[0] // 8)).astype(np.float16)
    np.savez_compressed(given.output / "density.npz", **found)
    print(f"{given.output}: {len(found)} pictures")


if __name__ == "__main__":
    main()
