"""Save all maps of a video as one NumPy array: python maps_to_numpy.py VIDEO OUT.npz"""

import sys

import numpy as np

import avsal

if len(sys.argv) != 3:
    sys.exit(__doc__)
video, out = sys.argv[1:]
# At the network's own size a minute of video takes about half a gigabyte.
frames = list(avsal.predict(video, size="model"))
np.savez(
    out,
    density=np.stack([frame.density for frame in frames]),  # (frames, h, w), each sums to 1
    seconds=np.array([frame.time for frame in frames]),
)
print(f"{out}: {len(frames)} maps")
