"""Which rows come together in a batch: those whose captions are alike teach what tells them apart."""

import re
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

_COMMON = 0.5  # a word in a larger share of all captions says nothing about any of them


class SimilarBatchSampler(Sampler[int]):
    """The order of an epoch's rows, in which some batches hold captions that are alike.

    A contrastive loss stops paying for a detail as soon as coarser ones tell all pairs of a batch apart. Where the
    pairs share what is coarse, the detail is all there is. For such a batch a row is drawn, and about half of the
    words of its caption; with it come the rows that have most of these words, rare words counting more, no video
    twice. So one batch may be about red things, another about things that turn, and every detail has its turn.

    Every row comes once an epoch, but for those that fill no batch. The order depends on `seed` and the epoch alone.

    Args:
        captions: of all rows.
        videos: of all rows, names.
        batch_size: rows that are one batch in the data loader.
        share: of the batches that hold similar captions, 0-1.
        after: epochs without such batches in the beginning; parts count. The share then is full at once.
        seed: at least 0.

    Raises:
        ValueError: if a number is out of range, or there is no batch.
    """

    def __init__(
        self,
        captions: Sequence[str],
        videos: Sequence[str],
        *,
        batch_size: int,
        share: float = 0.5,
        after: float = 0.0,
        seed: int = 0,
    ):
        if not 0 <= share <= 1 or after < 0:
            raise ValueError(f"got share={share}, after={after}, expected a share of 0 to 1, and epochs from 0 on")
        if len(captions) != len(videos):
            raise ValueError(f"got {len(captions)} captions of {len(videos)} videos, expected as many")
        if not 1 <= batch_size <= len(captions):
            raise ValueError(f"got batches of {batch_size} out of {len(captions)} rows, expected 1 to that; lower it")
        self.batch_size = batch_size
        self.share = share
        self.after = after
        self.seed = seed
        self._epoch = 0
        rows_of: dict[str, list[int]] = {}
        self._words = [sorted(set(re.findall(r"\w+", caption.lower()))) for caption in captions]
        for row, words in enumerate(self._words):
            for word in words:
                rows_of.setdefault(word, []).append(row)
        self._rows_of = {
            word: np.array(rows) for word, rows in rows_of.items() if len(rows) <= _COMMON * len(captions)
        }
        self._weight_of = {word: np.log(len(captions) / len(rows)) for word, rows in self._rows_of.items()}
        self._videos = np.unique(np.asarray(videos), return_inverse=True)[1]

    def __len__(self) -> int:
        return len(self._words) // self.batch_size * self.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Draw anew: call it before an epoch's iterator is made, as Trainer and Accelerate do."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self._epoch))
        batches = len(self) // self.batch_size
        first = min(max(round((self.after - self._epoch) * batches), 0), batches)
        alike = np.zeros(batches, dtype=bool)
        alike[first:] = rng.random(batches - first) < self.share
        # The alike ones choose first, while there is something to choose from.
        left = np.ones(len(self._words), dtype=bool)
        similar = [self._similar(rng, left) for _ in range(alike.sum())]
        others = iter(rng.permutation(np.flatnonzero(left)).tolist())
        for is_alike in alike:
            yield from similar.pop() if is_alike else (next(others) for _ in range(self.batch_size))

    def _similar(self, rng: np.random.Generator, left: np.ndarray) -> list[int]:
        """Take the rows of a batch out of those that are left."""
        anchor = rng.choice(np.flatnonzero(left))
        scores = 0.01 * rng.random(len(left))  # so that rows with the same words are drawn
        for word in self._words[anchor]:
            if word in self._rows_of and rng.random() < 0.5:
                scores[self._rows_of[word]] += self._weight_of[word]
        scores[~left] = -1.0
        scores[anchor] = np.inf
        order = np.argsort(-scores, kind="stable")[: left.sum()]
        _, firsts = np.unique(self._videos[order], return_index=True)
        once = np.zeros(len(order), dtype=bool)
        once[firsts] = True
        rows = np.concatenate([order[once], order[~once]])[: self.batch_size]
        left[rows] = False
        return rows.tolist()
