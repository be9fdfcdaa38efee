"""Where the maps of a job come from, as the arguments of `avsal.reframe` and others say it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from avsal.prediction.predictor import Predictor
from avsal.prediction.settings import PredictSettings
from avsal.results.folder import Result, read_result


@dataclass(frozen=True)
class MapSource:
    """Where the maps of videos come from: a folder with saved ones, or a network.

    Attributes:
        model: a loaded network, or its name with `weights`, `device`, `precision`, `offline`,
            `revision` and `engine` as in `avsal.load_model`. It is loaded when it is first needed.
        settings: how it predicts.
    """

    model: Predictor | str | None = None
    weights: str | os.PathLike[str] | None = None
    device: str = "auto"
    precision: str = "auto"
    offline: bool = False
    revision: str | None = None
    engine: str = "auto"
    settings: PredictSettings = field(default_factory=PredictSettings)

    def result(self, saliency: str | os.PathLike[str] | None) -> Result | None:
        """The result in a folder, None where no folder is given."""
        return None if saliency is None else read_result(Path(saliency))

    def maps(
        self, saliency: str | os.PathLike[str] | None
    ) -> Result | tuple[Predictor, PredictSettings]:
        """The part of a result in a folder, or the network where there is none.

        Raises:
            AvsalError: the result cannot be read, or has no maps in that part.
        """
        result = self.result(saliency)
        if result is None:
            return self.predictor, self.settings
        return result.part(self.settings.start, self.settings.end)

    @cached_property
    def predictor(self) -> Predictor:
        """The network, loaded."""
        if isinstance(self.model, Predictor):
            return self.model
        from avsal.prediction.model import load_model

        return load_model(
            self.model,
            self.weights,
            self.device,
            self.precision,
            offline=self.offline,
            revision=self.revision,
            engine=self.engine,
        )
