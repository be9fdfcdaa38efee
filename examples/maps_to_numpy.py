"""All maps of a video as one NumPy array: python maps_to_numpy.py VIDEO OUT.npz"""

import sys

import numpy as np

import avsal
from avsal.prediction import MapSize

video, out = sys.argv[1:]
model = avsal.load_model()
# At the network's own size a minute of video takes about half a gigabyte.
frames = list(model.predict(video, size=MapSize("model")))
np.savez(
    out,
    density=np.stack([frame.density for frame in frames]),  # (frames, 224, 384), each sums to 1
    seconds=np.array([frame.time for frame in frames]),
)
print(f"{out}: {len(frames)} maps")
