"""Path files of a picture whose gray tells the column, for tests of what is made of them."""

from __future__ import annotations

from fractions import Fraction
from xml.etree import ElementTree

import numpy as np
import pytest
import samples

from avsal.crops.file import PathFile, write_path
from avsal.crops.planning import Crop
from avsal.crops.settings import Picture

RATE = 25
WIDTH, HEIGHT = 160, 90


def column_ramp():
    """A picture whose gray tells the column."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:] = np.arange(40, 40 + WIDTH, dtype=np.uint8)[:, None]
    return image


def box_of(index):
    """Shot 0 rests, shot 1 moves and then rests, shot 2 rests; even numbers, as 4:2:0 likes."""
    if index < 10:
        return 20, 0, 50, 90
    return (2 * min(index - 10, 6), 0, 50, 90) if index < 20 else (104, 0, 50, 90)


def made(place, count=30, rate=Fraction(RATE), picture=None, first=0, times=None, **head):
    """A path file of `count` frames; the crops are `box_of` unless `boxes` tells others."""
    boxes = head.pop("boxes", box_of)
    times = times or [(first + i) / rate for i in range(count)]
    crops = (
        Crop(first + i, time, *map(float, boxes(i)), min(2, i // 10), 0.5)
        for i, time in enumerate(times)
    )
    size = head.pop("size", (50, 90))
    source = {"name": head.pop("name", "ramp.mp4")}
    described = PathFile(picture or Picture(WIDTH, HEIGHT), "5:9", size, source=source, **head)
    write_path(place, described, crops)
    return place


@pytest.fixture
def path(tmp_path):
    return made(tmp_path / "ramp.reframe.json")


@pytest.fixture
def video(tmp_path):
    """The video of the path, without sound."""
    pictures = samples.Pictures([column_ramp()] * 30, rate=RATE)
    return samples.write(tmp_path / "ramp.mp4", pictures)


def fcpxml_clips(place):
    root = ElementTree.parse(place).getroot()
    return root, root.findall("library/event/project/sequence/spine/asset-clip")


def seconds(text):
    return Fraction(text.removesuffix("s"))
