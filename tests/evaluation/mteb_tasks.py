"""Small tasks of mteb on local videos, for tests; nothing is downloaded."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mteb.mocks.mock_tasks as mocks
import numpy as np
from datasets import Dataset, Video
from mteb.abstasks import AbsTask
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData

VIDEO_TASKS = (
    mocks.MockVideoClassification,
    mocks.MockVideoMultilabelClassificationTask,
    mocks.MockVideoPairClassificationTask,
    mocks.MockVideoZeroshotClassificationTask,
    mocks.MockVideoClusteringTask,
    mocks.MockVideoRetrievalT2V,
    mocks.MockVideoRetrievalV2T,
)
"""All of mteb's tasks on drawn noise that need videos and texts alone."""


class DrawnRetrieval(mocks.MockVideoRetrievalT2V):
    """The search of drawn clips by their captions.

    Args:
        clips: of each video, the file or its bytes.
        captions: of each video.
    """

    metadata = mocks.MockVideoRetrievalT2V.metadata.model_copy(update={"name": "DrawnRetrieval"})

    def __init__(self, clips: Sequence[Path | bytes], captions: Sequence[str]):
        super().__init__()
        self.clips, self.captions = clips, captions

    def load_data(self, **kwargs: Any) -> None:
        count = len(self.clips)
        queries = {"id": [f"q{i}" for i in range(count)], "text": list(self.captions), "modality": ["text"] * count}
        sources = [clip if isinstance(clip, bytes) else str(clip) for clip in self.clips]
        corpus = {"id": [f"d{i}" for i in range(count)], "video": sources, "modality": ["video"] * count}
        split = RetrievalSplitData(
            queries=Dataset.from_dict(queries),
            corpus=Dataset.from_dict(corpus).cast_column("video", Video()),
            relevant_docs={f"q{i}": {f"d{i}": 1} for i in range(count)},
            top_ranked=None,
        )
        self.dataset, self.data_loaded = {"default": {"test": split}}, True


def ndcg(similarity: np.ndarray) -> float:
    """Return NDCG at 10 of queries, each of which has the document of its number.

    Args:
        similarity: `(queries, documents)`.
    """
    ranks = (similarity > np.diag(similarity)[:, None]).sum(axis=1) + 1
    return float(np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0).mean())


class Broken(mocks.MockVideoClassification):
    """A task whose data cannot be had."""

    metadata = mocks.MockVideoClassification.metadata.model_copy(update={"name": "Broken"})

    def load_data(self, **kwargs: Any) -> None:
        raise ConnectionError("the Hub does not answer")


def named(tasks: Sequence[AbsTask]) -> list[str]:
    """Return the names of tasks."""
    return [task.metadata.name for task in tasks]


def renamed(tasks: Sequence[str] | None = None, **filters: Any) -> list[AbsTask]:
    """Return tasks on drawn noise under the names of real ones, as `mteb.get_tasks` returns those.

    Args:
        tasks: names; all if None.
        filters: ignored.
    """
    stand_ins = {
        "MSVDV2TRetrieval": mocks.MockVideoRetrievalV2T,
        "MSVDT2VRetrieval": mocks.MockVideoRetrievalT2V,
        "Kinetics400ZeroShot": mocks.MockVideoZeroshotClassificationTask,
    }
    made = []
    for name in tasks or stand_ins:
        metadata = stand_ins[name].metadata.model_copy(update={"name": name})
        made.append(type(name, (stand_ins[name],), {"metadata": metadata})())
    return made
