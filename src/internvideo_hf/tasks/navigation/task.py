"""Navigation by instructions in continuous environments: scores of recorded paths.

The agent itself needs an environment, see `environment`; its paths are recorded, and scored here.
"""

from pathlib import Path

import numpy as np

from internvideo_hf.data.records import ManifestError, list_path
from internvideo_hf.data.samples import Row
from internvideo_hf.tasks.base import Task
from internvideo_hf.tasks.navigation.answers import Answers
from internvideo_hf.tasks.navigation.metrics import COLUMNS
from internvideo_hf.tasks.navigation.paths import read_paths
from internvideo_hf.tasks.protocol import Evaluation, Outcome, Protocol, Run, Samples


def _read(protocol: Protocol, data_root: Path, model: str) -> Samples:
    data = protocol.data
    path = list_path(data_root, data.list)
    paths = read_paths(path, None if data.references is None else data_root / data.references)
    for recorded in paths:
        lacks = [name for name in ("distances", "reference") if getattr(recorded, name) is None]
        if lacks:
            raise ManifestError(
                str(path),
                f"episode {recorded.episode}",
                f"{' and '.join(lacks)} missing",
                "Record distances to the goal with the path, and name R2R-CE's list of episodes by data.references",
            )
    episodes: list[Row] = [{"video": recorded.episode} for recorded in paths]
    return Samples(episodes, np.arange(len(paths)), source=paths)


def _run(protocol: Protocol, samples: Samples, run: Run) -> Outcome:
    answers = Answers(samples.source)
    return Outcome(answers.scores(), {}, {"device": "cpu", "pixels": {}}, answers)


TASK = Task(
    "navigation",
    evaluation=Evaluation(
        _read,
        _run,
        COLUMNS,
        settings=("data.references",),
        has_details=True,
        needs_model=lambda protocol: False,
    ),
)
