"""The README's moving picture: python make_overlay.py VIDEO START OUT.webp

Draws an overlay over four seconds of a video and saves every other frame as an animated WebP. The
picture in this folder shows Big Buck Bunny, (c) Blender Foundation, CC BY 3.0, seconds 17 to 21.
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image

import avsal
from avsal.media import VideoReader

SECONDS = 4
WIDTH = 640  # pixels
QUALITY = 60  # of WebP, 0 to 100

if len(sys.argv) != 4:
    sys.exit(__doc__)
video, start, out = sys.argv[1], float(sys.argv[2]), sys.argv[3]
with tempfile.TemporaryDirectory() as folder:
    drawn = avsal.overlay(video, Path(folder) / "o.mp4", start=start, end=start + SECONDS)
    with VideoReader(drawn) as frames:
        shown = [frame.image for frame in frames if frame.index % 2 == 0]
height = round(WIDTH * shown[0].shape[0] / shown[0].shape[1])
images = [Image.fromarray(image).resize((WIDTH, height)) for image in shown]
duration = round(1000 * SECONDS / len(images))  # milliseconds
images[0].save(
    out, save_all=True, append_images=images[1:], duration=duration, loop=0, quality=QUALITY
)
print(f"{out}: {len(images)} frames")
