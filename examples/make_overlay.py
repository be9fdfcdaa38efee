"""The README's moving picture: python make_overlay.py VIDEO START OUT.webp

Draws an overlay over four seconds of a video and saves every other frame as an animated WebP. The
picture in this folder shows Big Buck Bunny, (c) Blender Foundation, CC BY 3.0, from its 17th second.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from avsal.media import VideoReader

SECONDS = 4
WIDTH = 640  # pixels
QUALITY = 60  # of WebP, 0 to 100

video, start, out = sys.argv[1], float(sys.argv[2]), sys.argv[3]
with tempfile.TemporaryDirectory() as folder:
    drawn = Path(folder) / "overlay.mp4"
    part = ["--start", str(start), "--end", str(start + SECONDS)]
    command = [sys.executable, "-m", "avsal", "overlay", video, "-o", str(drawn), *part]
    subprocess.run(command, check=True)
    with VideoReader(drawn) as frames:
        shown = [frame for frame in frames if frame.index % 2 == 0]
height = round(WIDTH * shown[0].image.shape[0] / shown[0].image.shape[1])
images = [Image.fromarray(frame.image).resize((WIDTH, height)) for frame in shown]
duration = round(1000 * SECONDS / len(images))  # milliseconds
images[0].save(
    out, save_all=True, append_images=images[1:], duration=duration, loop=0, quality=QUALITY
)
print(f"{out}: {len(images)} frames")
