"""Store some maps of the shipped weights, which tests/test_default.py compares with.

    python weights/recipe/golden.py

Later changes of the code must not change the maps of a release.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from avsal import load_model

ROOT = Path(__file__).parents[2]
CLIP = ROOT / "examples" / "talk_and_bounce.mp4"
OUTPUT = ROOT / "tests" / "avsal-small.npz"
FRAMES = (0, 10, 20, 30, 39)
SIZE = (28, 48)  # (height, width), an eighth of the network's


def main() -> None:
    """Write the file."""
    maps = [
        cv2.resize(frame.log_density, SIZE[::-1], interpolation=cv2.INTER_AREA)
        for frame in load_model(device="cpu", precision="fp32").predict(CLIP, stride=1, end=1.6)
        if frame.index in FRAMES
    ]
    np.savez_compressed(OUTPUT, frames=FRAMES, log_densities=np.stack(maps))
    print(f"{OUTPUT}: {len(maps)} maps")


if __name__ == "__main__":
    main()
