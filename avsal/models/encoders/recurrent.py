"""Motion encoder of the default network: what its frames' image features say together.

The other motion encoders see the clip's pixels and share nothing between overlapping windows. Here
the image stream runs once on a frame, and this module remembers and compares what it said of a few
frames at fixed distances in time. A window costs little more than its newest frame.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from avsal.models.compact import DEEP, MOTION16, SKIP16, relu6, separable


class Recurrence(nn.Module):
    """The motion stream: features of a window's frames, oldest first -> what they say together.

    A convolutional GRU over the coarsest features, beginning with nothing, and the change between
    the last two frames at stride 16.
    """

    def __init__(self) -> None:
        super().__init__()
        for gate in ("reset", "update", "new"):
            self.add_module(f"{gate}_seen", separable(DEEP, DEEP))
            self.add_module(f"{gate}_held", separable(DEEP, DEEP))
        self.recall = nn.Sequential(nn.Conv2d(DEEP, DEEP, 1), relu6())
        self.change = nn.Sequential(nn.Conv2d(SKIP16, MOTION16, 1), nn.ReLU(inplace=True))

    def forward(self, features: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """Features (B, T, C, h, w) at three strides -> (B, C, 1, h, w) each: the change (32, stride
        16), the frame with its past (256, stride 32), and both at stride 32 for the fusion."""
        _, stride16, deep = features
        change = self.change((stride16[:, -1] - stride16[:, -2]).abs())
        seen = deep[:, -1] + self.recall(self.remembered(deep))
        tokens = torch.cat((seen, F.avg_pool2d(change, 2)), dim=1)
        return change[:, :, None], seen[:, :, None], tokens[:, :, None]

    def remembered(self, deep: torch.Tensor) -> torch.Tensor:
        """The GRU's state (B, 256, h, w) after frames (B, T, 256, h, w)."""
        frames = deep.flatten(0, 1)
        parts = [
            self.get_submodule(f"{gate}_seen")(frames).unflatten(0, deep.shape[:2])
            for gate in ("reset", "update", "new")
        ]
        held = torch.zeros_like(deep[:, 0])
        for reset, update, new in zip(*(part.unbind(dim=1) for part in parts), strict=True):
            held = self.step(held, reset, update, new)
        return held

    def step(
        self, held: torch.Tensor, reset: torch.Tensor, update: torch.Tensor, new: torch.Tensor
    ) -> torch.Tensor:
        """One frame on: all (B, 256, h, w); the last three are what its gates say of the frame."""
        kept = torch.sigmoid(reset + self.get_submodule("reset_held")(held))
        taken = torch.sigmoid(update + self.get_submodule("update_held")(held))
        proposed = torch.tanh(new + kept * self.get_submodule("new_held")(held))
        return torch.lerp(held, proposed, taken)
