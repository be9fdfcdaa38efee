"""The README's moving picture: python make_overlay.py VIDEO START OUT.webp

Draws an overlay over four seconds of a video and saves every other frame as an animated WebP. The
picture in this folder shows Big Buck Bunny, (c) Blender Foundation, CC BY 3.0, seconds 17 to 21.
"""

import argparse
import tempfile
from pathlib import Path

from PIL import Image

import avsal
from avsal.media import VideoReader

SECONDS = 4
WIDTH = 640  # pixels
QUALITY = 60  # of WebP, 0 to 100

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("video")
parser.add_argument("start", type=float, help="seconds")
parser.add_argument("out", help="such as overlay.webp")
arguments = parser.parse_args()
start, end = arguments.start, arguments.start + SECONDS
with tempfile.TemporaryDirectory() as folder:
    drawn = avsal.overlay(arguments.video, Path(folder) / "o.mp4", start=start, end=end)
    with VideoReader(drawn) as frames:
        shown = [frame.image for frame in frames if frame.index % 2 == 0]
height = round(WIDTH * shown[0].shape[0] / shown[0].shape[1])
images = [Image.fromarray(image).resize((WIDTH, height)) for image in shown]
duration = round(1000 * SECONDS / len(images))  # milliseconds
images[0].save(
    arguments.out,
    save_all=True,
    append_images=images[1:],
    duration=duration,
    loop=0,
    quality=QUALITY,
)
print(f"{arguments.out}: {len(images)} frames")
