"""In which order an epoch goes through its samples, and where in it a run stands."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from avsal.errors import DataError
from avsal.training.samples import Key


class Batches:
    """Batches of keys for one process; every epoch has its own order, the same in all processes.

    A `batch_sampler` for a DataLoader. Set `epoch` and `start`, the number of batches to leave out,
    before going through it. What does not fill a batch of every process waits for another epoch.
    """

    def __init__(self, count: int, batch: int, seed: int, rank: int = 0, world: int = 1) -> None:
        """Take the number of samples.

        Raises:
            DataError: there are fewer samples than a batch needs.
        """
        self._count, self._batch, self._seed = count, batch, seed
        self._rank, self._world = rank, world
        self.epoch = 0
        self.start = 0
        if len(self) == 0:
            raise DataError(
                f"{count} training samples do not fill a batch of {batch} in "
                f"{world} processes; lower optimiser.batch or set data.train repeat"
            )

    def __len__(self) -> int:
        return self._count // (self._batch * self._world)

    def __iter__(self) -> Iterator[list[Key]]:
        order = np.random.default_rng((self._seed, self.epoch)).permutation(self._count)
        whole = order[: len(self) * self._world * self._batch]
        for batch in whole.reshape(-1, self._world, self._batch)[self.start :, self._rank]:
            yield [(self.epoch, int(place)) for place in batch]
