"""What goes out: a folder of maps with their description, never half-written."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch

from avsal.errors import AvsalError, MediaError
from avsal.media.frames import FrameTag
from avsal.prediction.postprocess import to_density
from avsal.prediction.saliency import SaliencyFrame
from avsal.prediction.settings import OutputSettings
from avsal.results.formats import FORMAT_CLASSES, PROBABILITY_TOP

DESCRIPTION = "saliency.json"


class Spool:
    """Log-densities kept on disk until the whole clip's scale is known.

    They are stored as the network gave them (float32, its own size), so the second pass repeats
    the post-processing exactly.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by `frames`
        self._tags: list[tuple[FrameTag, tuple[int, int]]] = []
        self._shape = (0, 0)

    def add(self, frame: SaliencyFrame) -> None:
        self._shape = (frame.log_density.shape[0], frame.log_density.shape[1])
        self._tags.append((frame.tag, (frame.density.shape[0], frame.density.shape[1])))
        self._file.write(np.ascontiguousarray(frame.log_density, np.float32).tobytes())

    def frames(self) -> Iterator[SaliencyFrame]:
        with self._file as file:
            file.seek(0)
            for tag, size in self._tags:
                data = file.read(4 * self._shape[0] * self._shape[1])
                log_density = np.frombuffer(data, np.float32).reshape(self._shape)
                density = to_density(torch.tensor(log_density)[None], size)[0].numpy()
                yield SaliencyFrame(tag, log_density, density)

    def close(self) -> None:
        self._file.close()


class DescriptionFile:
    """`saliency.json`, written frame by frame so that a long video needs no memory."""

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self._file = path.open("w", encoding="utf-8")
        text = json.dumps(header, indent=1, ensure_ascii=False)
        self._file.write(text[:-2] + ',\n "frames": [')
        self._separator = "\n  "

    def add(self, frame: SaliencyFrame, low: float, high: float) -> None:
        record = {
            "index": frame.index,
            "pts": str(frame.pts),
            "time": round(frame.time, 6),
            "peak": frame.peak,
            "entropy": round(frame.entropy, 4),
            "min": float(low),
            "max": float(high),
        }
        self._file.write(self._separator + json.dumps(record))
        self._separator = ",\n  "

    def close(self) -> None:
        self._file.write("\n ]\n}\n")
        self._file.close()

    def abandon(self) -> None:
        self._file.close()


class ResultWriter:
    """Writes one video's maps and their description into a folder that appears only when whole."""

    def __init__(self, folder: Path, header: dict[str, Any], output: OutputSettings) -> None:
        """Prepare the result.

        Args:
            folder: where the result will be; an earlier result there is replaced.
            header: what `saliency.json` says before the frames.

        Raises:
            MediaError: the folder cannot be written, or holds something that is no result.
        """
        check_replaceable(folder)
        self.folder = folder
        self._output = output
        with _write_errors(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            prefix = f".{folder.name}.partial-"
            self._aside = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
            self._aside.chmod(0o755)
            self._description = DescriptionFile(self._aside / DESCRIPTION, header)
            self._maps = FORMAT_CLASSES[output.format](self._aside)
            self._spool = Spool(folder.parent) if self._two_passes else None
        self._range = (float("inf"), float("-inf"))

    @property
    def _two_passes(self) -> bool:
        return self._output.scale == "clip" and self._output.format != "npy"

    def write(self, frame: SaliencyFrame) -> None:
        """Take the next map."""
        with _write_errors(self.folder):
            low, high = float(frame.density.min()), float(frame.density.max())
            if self._spool is not None:
                self._range = (min(low, self._range[0]), max(high, self._range[1]))
                self._spool.add(frame)
            elif self._output.scale == "probability":
                self._put(frame, 0.0, PROBABILITY_TOP / frame.density.size)
            else:
                self._put(frame, low, high)

    def _put(self, frame: SaliencyFrame, low: float, high: float) -> None:
        self._maps.write(frame, low, high)
        self._description.add(frame, low, high)

    def __enter__(self) -> ResultWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                with _write_errors(self.folder):
                    self._finish()
        finally:
            self._discard()

    def _finish(self) -> None:
        if self._spool is not None:
            for frame in self._spool.frames():
                self._put(frame, *self._range)
        self._maps.close()
        self._description.close()
        replace_folder(self._aside, self.folder)

    def _discard(self) -> None:
        """Leave nothing behind; after a finished result there is nothing left to remove."""
        if self._spool is not None:
            self._spool.close()
        self._maps.abandon()
        self._description.abandon()
        shutil.rmtree(self._aside, ignore_errors=True)


def check_replaceable(folder: Path) -> None:
    """Refuse to overwrite what is not a result.

    Raises:
        MediaError: something else is at that place.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise MediaError(f"{folder}: a file is in the way; remove it or choose another output")
    if not (folder / DESCRIPTION).is_file() and any(folder.iterdir()):
        raise MediaError(
            f"{folder}: the folder is not empty and holds no {DESCRIPTION}, so it is not an "
            "earlier result; remove it or choose another output"
        )


def replace_folder(new: Path, final: Path) -> None:
    """Put a finished folder in its place; an older one there goes once the new one stands."""
    if final.exists():
        attic = Path(tempfile.mkdtemp(prefix=f".{final.name}.old-", dir=final.parent))
        final.replace(attic / final.name)
        new.replace(final)
        shutil.rmtree(attic, ignore_errors=True)
    else:
        new.replace(final)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it.

    Raises:
        MediaError: it cannot be made.
    """
    with _write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)


def write_file(path: Path, data: bytes) -> None:
    """Write a file aside, then rename it.

    Raises:
        MediaError: it cannot be written.
    """
    with _write_errors(path), tempfile.TemporaryDirectory(dir=path.parent) as aside:
        new = Path(aside) / path.name
        new.write_bytes(data)
        new.replace(path)


@contextmanager
def _write_errors(place: Path) -> Iterator[None]:
    """Turn the system's refusals into one line that names the place."""
    try:
        yield
    except AvsalError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise MediaError(
            f"{place}: cannot write the result ({reason.lower()}); free space or choose another "
            "output"
        ) from error
