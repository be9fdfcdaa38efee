"""What people looked at while their gaze was recorded: a video or an image with its annotations."""

from __future__ import annotations

import abc
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from avsal.evaluation.truth import Moment, Truth

if TYPE_CHECKING:
    from avsal.pipeline import Predictor
    from avsal.settings import PredictSettings

Prediction = tuple[Moment, np.ndarray]  # the frame and its saliency map (H, W) of any scale


class Stimulus(abc.ABC):
    """A video or an image; what kind of data set it is from is the subclass's business.

    Attributes:
        name: unique within its group, may have slashes.
        group: database or image set.
    """

    name: str
    group: str

    @abc.abstractmethod
    def identity(self) -> dict[str, Any]:
        """What tells its files from changed ones, for resuming; JSON values."""

    @abc.abstractmethod
    def moments(self) -> Iterator[Moment]:
        """All frames in order, annotated or not."""

    @abc.abstractmethod
    def truth(self, moment: Moment) -> Truth | None:
        """Annotation of a frame, None where nobody looked; called from several threads.

        Raises:
            DataError: a file of the annotation is missing or damaged.
        """

    @abc.abstractmethod
    def predict(self, predictor: Predictor, settings: PredictSettings) -> Iterator[Prediction]:
        """Run the network over it once.

        Raises:
            DataError, MediaError: it cannot be read.
        """

    @property
    def seed(self) -> int:
        """Decides random choices; depends on the name alone."""
        return zlib.crc32(self.name.encode())


@dataclass(frozen=True)
class Group:
    """Stimuli that are averaged together.

    Attributes:
        name: database or image set.
        fold: "1", "2", ...; empty where there are no folds.
    """

    name: str
    stimuli: tuple[Stimulus, ...]
    fold: str = ""
