"""Sentences about features of untrimmed videos, as samples of temporal grounding."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from internvideo_hf.data.features import FeatureFolder
from internvideo_hf.data.records import ManifestError
from internvideo_hf.tasks.features import OpenedFeatures, open_folder
from internvideo_hf.tasks.protocol import QueryData
from internvideo_hf.tasks.temporal_grounding.queries import Query
from internvideo_hf.tasks.temporal_grounding.rows import Floats, part_of_rows, row_edges, rows_between


class VideoRows(NamedTuple):
    """The features of a video, and their times.

    Args:
        features: `(rows, channels)`, float32.
        edges: where each row begins and the last one ends, in seconds, `(rows + 1,)`, see `rows.row_edges`.
    """

    features: torch.Tensor
    edges: Floats


class Sample(NamedTuple):
    """A sentence and the features of its video.

    Args:
        query: the sentence.
        rows: features of the video.
        words: features of the sentence, `(words, channels)`, float32.
    """

    query: Query
    rows: VideoRows
    words: torch.Tensor


class QueryFeatures:
    """The features of the videos that sentences are about: files by the ids of the videos.

    Of a clip of Ego4D, the file of the clip comes first, and then the part of the file of its whole video.

    Args:
        found: the features on disk.
        queries: the sentences.
    """

    def __init__(self, found: OpenedFeatures, queries: Sequence[Query]):
        self._found = found
        self._about = {query.video: query for query in queries}
        known = [name for name, query in self._about.items() if self._file(query) is not None]
        self.videos = known
        self.missing = sorted(set(self._about) - set(known))

    @classmethod
    def open(
        cls, data: QueryData, data_root: Path, queries: Sequence[Query], trained_on: Mapping[str, Any] | None = None
    ) -> "QueryFeatures":
        """Open the features of the videos of sentences; see `internvideo_hf.tasks.features.open_folder`.

        Args:
            data: settings of a recipe or a protocol.
            data_root: folder that the features are below.
            queries: the sentences.
            trained_on: `config.features` of the model that is evaluated; None in training, or if unknown.

        Raises:
            ManifestError: if there are no features of any of the videos, or those of different settings.
            RecipeError: if nothing says how they lie in time, or they are not those that the model was trained on.
        """
        names = dict.fromkeys(name for query in queries for name in (query.video, query.source) if name is not None)
        found = cls(open_folder(data, data_root, names, trained_on), queries)
        if not found.videos:
            cause = f"none of its files is of one of the {len(found.missing)} videos, such as {found.missing[0]}"
            raise ManifestError(str(found.folder.folder), None, cause, "Check the folder and the prefix.")
        return found

    @property
    def folder(self) -> FeatureFolder:
        """The files."""
        return self._found.folder

    @property
    def facts(self) -> dict[str, Any]:
        """Encoder and window rule, which a model trained on them keeps (`config.features`)."""
        return self._found.facts

    def _file(self, query: Query) -> str | None:
        names = (query.video, query.source)
        return next((name for name in names if name is not None and name in self.folder), None)

    def path_of(self, video: str) -> Path:
        """Return the file of a video's features.

        Args:
            video: id, as the sentences have it.

        Raises:
            ManifestError: if there is none.
        """
        return self.folder.path_of(self._name(video))

    def only(self, video: str) -> "QueryFeatures":
        """Return the features of one video alone, which are quickly sent to a worker.

        Args:
            video: id, as the sentences have it.

        Raises:
            ManifestError: if there are none.
        """
        name, found = self._name(video), self._found
        rates, durations = (
            {key: value for key, value in known.items() if key == name} for known in (found.rates, found.durations)
        )
        return QueryFeatures(
            replace(found, folder=found.folder.only(name), rates=rates, durations=durations), [self._about[video]]
        )

    def _name(self, video: str) -> str:
        if (name := self._file(self._about[video])) is None:
            raise ManifestError(str(self.folder.folder), video, "it has no features", "Extract them.")
        return name

    def load(self, video: str) -> VideoRows:
        """Return the features of a video, or of the clip of one.

        Args:
            video: id, as the sentences have it.

        Raises:
            ManifestError: if there are none, they cannot be read, or their times are unknown.
        """
        query, name = self._about[video], self._name(video)
        features, duration = self.folder.read(name), self._found.durations.get(name)
        is_part = name != query.video
        if query.source_start is not None and query.source_end is not None and not is_part:
            duration = query.source_end - query.source_start
        try:
            grid = self._found.settings.grid(len(features), self._found.rates.get(name), duration)
        except ValueError as error:
            raise ManifestError(name, None, str(error), "Set data.queries.stride, num_frames and fps.") from None
        middles: Floats = (np.arange(len(features), dtype=np.float64) * grid.stride + grid.num_frames / 2) / grid.fps
        if is_part:
            assert query.source_start is not None and query.source_end is not None  # as of every clip
            rows = part_of_rows(middles, query.source_start, query.source_end)
            features, middles = features[rows], np.maximum(middles[rows] - query.source_start, 0.0)
            duration = query.source_end - query.source_start
        return VideoRows(features, row_edges(middles, duration))


class QueryDataset(Dataset[Sample]):
    """Sentences whose videos have features.

    Args:
        queries: the sentences; those of videos without features are left out.
        features: of the videos.
        words: features of each sentence, by its text.
    """

    def __init__(self, queries: Sequence[Query], features: QueryFeatures, words: Mapping[str, torch.Tensor]):
        known = set(features.videos)
        self.queries = [query for query in queries if query.video in known]
        self.features, self.words = features, words

    def __len__(self) -> int:
        return len(self.queries)

    def __getitem__(self, index: int) -> Sample:
        query = self.queries[index]
        return Sample(query, self.features.load(query.video), self.words[query.text])


def collate(samples: Sequence[Sample], *, keep_edges: bool = False) -> dict[str, Any]:
    """Make a batch of samples.

    Args:
        samples: of a `QueryDataset`.
        keep_edges: add `edges`, the times of the rows for the metrics, `(batch, rows + 1)`, float64, NaN behind them.

    Returns:
        `features`, padded with zeros, `(batch, rows, channels)`, and `feature_mask`; `text_features`, `(batch, words,
        channels)`, and `text_mask`; `videos`, their ids; and, if all stretches are known, `labels`, the first and the
        last row of each, `(batch, 2)`.
    """
    batch: dict[str, Any] = {"videos": [sample.query.video for sample in samples]}
    for name, tensors in (
        ("feature", [sample.rows.features for sample in samples]),
        ("text", [sample.words for sample in samples]),
    ):
        lengths = torch.tensor([len(tensor) for tensor in tensors])
        batch["features" if name == "feature" else "text_features"] = pad_sequence(tensors, batch_first=True)
        batch[f"{name}_mask"] = torch.arange(int(lengths.max())) < lengths[:, None]
    if all(sample.query.end is not None for sample in samples):
        spans = [rows_between(sample.rows.edges, sample.query.start, sample.query.end) for sample in samples]  # type: ignore[arg-type]
        batch["labels"] = torch.tensor(spans)
    if keep_edges:
        edges = [torch.from_numpy(sample.rows.edges) for sample in samples]
        batch["edges"] = pad_sequence(edges, batch_first=True, padding_value=torch.nan)
    return batch
