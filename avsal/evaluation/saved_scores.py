"""Results of single recordings on disk, so that an evaluation goes on where it stopped."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from avsal.evaluation.scores import Scores
from avsal.results.writer import make_folder, write_file


@dataclass(frozen=True)
class Result:
    """Scores of one video or image.

    Attributes:
        frames: how many were scored; those without fixations are left out.
        scores: means over the frames, by method and metric.
    """

    group: str
    fold: str
    name: str
    frames: int
    scores: dict[str, Scores]


class ResultStore:
    """A folder of results, one JSON file a recording."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, group: str, fold: str, name: str, record: dict[str, Any]) -> Result | None:
        """The finished result of a recording, None if there is none made with the same record."""
        try:
            found = json.loads(self._path(group, fold, name).read_text(encoding="utf-8"))
            if found["made_with"] == json.loads(json.dumps(record)):
                return Result(**found["result"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def save(self, result: Result, record: dict[str, Any]) -> None:
        """Write a result, whole or not at all; raises MediaError."""
        path = self._path(result.group, result.fold, result.name)
        make_folder(path.parent)
        content = {"made_with": record, "result": asdict(result)}
        write_file(path, json.dumps(content, indent=1, ensure_ascii=False).encode())

    def _path(self, group: str, fold: str, name: str) -> Path:
        place = self.folder / "results" / (f"fold{fold}" if fold else "") / group
        return place / f"{name}.json"
