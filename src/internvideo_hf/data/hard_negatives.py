"""Hard-negative batches: group captions that the current model confuses."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


class HardNegativeBatchSampler(Sampler[int]):
    """Order an epoch's rows so that some batches hold similar captions.

    A contrastive loss stops rewarding a detail as soon as coarser ones tell all pairs of a batch apart. Among similar
    captions only the detail is left. The model itself measures similarity: while it ignores a detail, its text
    embeddings hardly depend on it. Such a batch is a random row and a sample of the rows whose captions are nearest to
    it, no video twice while there are others.

    Every row comes once an epoch, except those that fill no batch or exceed `rows`. The order depends on `seed`, the
    epoch, and the vectors at its beginning: resuming within an epoch needs those vectors.

    Args:
        videos: name of the video of each row.
        vectors: returns the captions' embeddings by the current model, `(rows, dim)`, of length 1. It is called at
            most once an epoch.
        batch_size: rows of a batch of the data loader.
        share: fraction of the batches that hold similar captions, 0-1.
        after: first epochs without such batches, since an untrained model measures no similarity.
        among: candidates for each row of a batch, at least 1: rows are drawn from the `among * batch_size` nearest.
            With few, most captions of a batch say the same.
        rows: rows of an epoch, a new sample for each; all where None. Similarity is measured once an epoch: of a long
            list, fewer rows keep it up to date.
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
                f"got share={share}, after={after}, among={among}, expected a fraction of 0 to 1, epochs from 0 on, "
                "and a number from 1 on"
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
        """Change the draws: call it before an epoch's iterator is made, as Trainer and Accelerate do."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self._epoch))
        alike = rng.random(len(self) // self.batch_size) < (self.share if self._epoch >= self.after else 0)
        # Similar batches choose first, while there is something to choose from.
        left = np.sort(rng.permutation(len(self._videos))[: self._rows])
        vectors = self._vectors() if alike.any() else np.empty(0)
        similar: list[list[int]] = []
        for _ in range(alike.sum()):
            rows = self._similar(rng, left, vectors)
            similar.append(rows.tolist())
            left = np.setdiff1d(left, rows, assume_unique=True)
        others = iter(rng.permutation(left).tolist())
        order = rng.permutation(len(similar)).tolist()  # or the last ones to choose, which are less similar, came last
        for is_alike in alike:
            yield from similar[order.pop()] if is_alike else (next(others) for _ in range(self.batch_size))

    def _similar(self, rng: np.random.Generator, left: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """Choose the rows of a batch of those that are left."""
        likeness = vectors[left] @ vectors[rng.choice(left)]
        number = min(self.among * self.batch_size, len(left))
        nearest = rng.permutation(left[np.argpartition(-likeness, number - 1)[:number]])
        once = np.zeros(number, dtype=bool)
        once[np.unique(self._videos[nearest], return_index=True)[1]] = True
        return np.concatenate([nearest[once], nearest[~once]])[: self.batch_size]
