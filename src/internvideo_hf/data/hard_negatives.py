"""Which rows come together in a batch: pairs that a model cannot yet tell apart teach it what does."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


class HardNegativeBatchSampler(Sampler[int]):
    """The order of an epoch's rows, in which some batches hold captions that are alike.

    A contrastive loss stops paying for a detail as soon as coarser ones tell all pairs of a batch apart. Among
    captions that are alike, the detail is all there is. What is alike says the model itself: as long as a detail has
    no consequence, its text embeddings hardly differ by it. For such a batch a row is drawn, and its other rows among
    those whose captions are nearest to it, no video twice while there are others.

    Every row comes once an epoch, but for those that fill no batch, or are beyond `rows`. The order depends on `seed`,
    the epoch, and the vectors at its beginning: to go on in the middle of an epoch needs the vectors of then.

    Args:
        videos: of all rows, names.
        vectors: gives the captions' embeddings as the model is now, `(rows, dim)`, of length 1. It is called once an
            epoch, where they are needed.
        batch_size: rows that are one batch in the data loader.
        share: of the batches that hold similar captions, 0-1.
        after: epochs in the beginning that have no such batches, since a model that knows nothing knows nothing alike.
        among: the rows of a batch are drawn among this many times as many of the nearest ones, at least 1. With few,
            most captions of a batch come to say the same.
        rows: that an epoch has, drawn anew for each; all where None. What is alike is asked for once an epoch: of a
            long list, fewer rows keep that up to date.
        seed: at least 0.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(
        self,
        videos: Sequence[str],
        vectors: Callable[[], np.ndarray],
        *,
        batch_size: int,
        share: float = 0.6,
        after: int = 1,
        among: int = 12,
        rows: int | None = None,
        seed: int = 0,
    ):
        if not 0 <= share <= 1 or after < 0 or among < 1:
            raise ValueError(
                f"got share={share}, after={after}, among={among}, expected a share of 0 to 1, epochs from 0 on, and "
                "a number from 1 on"
            )
        self._rows = len(videos) if rows is None else min(rows, len(videos))
        if not 1 <= batch_size <= self._rows:
            raise ValueError(f"got batches of {batch_size} out of {self._rows} rows, expected 1 to that; lower it")
        self.batch_size = batch_size
        self.share = share
        self.after = after
        self.among = among
        self.seed = seed
        self._vectors = vectors
        self._epoch = 0
        self._videos = np.unique(np.asarray(videos), return_inverse=True)[1]

    def __len__(self) -> int:
        return self._rows // self.batch_size * self.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Draw anew: call it before an epoch's iterator is made, as Trainer and Accelerate do."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self._epoch))
        alike = rng.random(len(self) // self.batch_size) < (self.share if self._epoch >= self.after else 0)
        # The alike ones choose first, while there is something to choose from.
        left = np.sort(rng.permutation(len(self._videos))[: self._rows])
        vectors = self._vectors() if alike.any() else None
        similar = []
        for _ in range(alike.sum()):
            rows = self._similar(rng, left, vectors)
            similar.append(rows.tolist())
            left = np.setdiff1d(left, rows, assume_unique=True)
        others = iter(rng.permutation(left).tolist())
        order = rng.permutation(len(similar)).tolist()  # or the last ones to choose, which are less alike, came last
        for is_alike in alike:
            yield from similar[order.pop()] if is_alike else (next(others) for _ in range(self.batch_size))

    def _similar(self, rng: np.random.Generator, left: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """The rows of a batch, out of those that are left."""
        likeness = vectors[left] @ vectors[rng.choice(left)]
        number = min(self.among * self.batch_size, len(left))
        nearest = rng.permutation(left[np.argpartition(-likeness, number - 1)[:number]])
        once = np.zeros(number, dtype=bool)
        once[np.unique(self._videos[nearest], return_index=True)[1]] = True
        return np.concatenate([nearest[once], nearest[~once]])[: self.batch_size]
