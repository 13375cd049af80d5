"""Old names of modules, which work with a warning until version 0.2."""

import importlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

PACKAGE = "internvideo_hf"
# Old module -> the modules that hold its names now, in the order in which they are asked; below the package.
MODULES = {
    "conversion": "checkpoints",
    "conversion.convert": "checkpoints.convert processing.presets",
    "conversion.loading": "checkpoints.released_file",
    **{
        f"conversion.{family}": f"checkpoints.families.{family}"
        for family in ("internvideo_mae", "internvideo_mm", "uniformerv2", "viclip")
    },
    **{
        f"conversion.{name}": f"checkpoints.{name}"
        for name in (
            *("clip", "clip_layout", "errors", "fusing", "heads", "merging", "released", "saving", "shapes"),
            *("starting", "table", "transformers_videomae"),
        )
    },
    "data.batches": "data.hard_negatives",
    "data.choices": "tasks.multiple_choice.data",
    "data.jobs": "data.folders data.executors.processes",
    "data.scanning": "data.verification",
    "data.shrinking": "data.transcoding",
    "data.synthetic": "demo.synthetic",
    "demo.weights": "checkpoints.model_names",
    "doctor": "cli.checks",
    "ensemble_run": "evaluation.ensemble_run",
    "evaluation.demo": "demo.scores",
    "evaluation.metrics": "inference.ranking",
    "evaluation.score_merging": "inference.merging inference.runner",
    "evaluation_run": "evaluation.run",
    "extraction": "inference.features",
    "files": "utils.files utils.fingerprints",
    "groups": "models.common.layer_groups",
    "layers": "models.common.layers models.common.kernels",
    "loading": "models.common.loading",
    "losses": "models.common.losses",
    "outputs": "models.common.outputs",
    "pictures": "utils.pictures",
    "pipelines": "tasks",
    "pipelines.base": "inference.pipeline inference.merging",
    "pipelines.multi_view_video_classification": "tasks.classification.pipeline",
    "pipelines.video_text_retrieval": "tasks.retrieval.pipeline",
    "pipelines.zero_shot_video_classification": "tasks.zero_shot.pipeline",
    "reconstruction": "inference.reconstruction",
    "retrieval": "search",
    "retrieval.calibration": "search.calibration",
    "retrieval.clips": "search.clips",
    "retrieval.encoder": "inference.embedder",
    "retrieval.hits": "search.hits",
    "retrieval.index": "search.index search.sync search.ranking",
    "retrieval.nearest": "search.stores.nearest",
    "retrieval.store": "search.stores.local search.stores.segments",
    "training.averaging": "training.ema",
    "training.own_shards": "training.shard_sampling",
    "training.run_folder": "training.run_directory",
    "training.trunk_cache": "training.feature_cache",
    "training_run": "training.run",
    "video.choice": "utils.names",
}
# Old name in its old module -> the new name.
NAMES = {
    "conversion.released": {"released": "released_rows"},
    "data.batches": {"SimilarBatchSampler": "HardNegativeBatchSampler"},
    "data.jobs": {"each": "map_unordered"},
    "data.scanning": {"examine": "verify_video", "scan": "verify_videos"},
    "data.shrinking": {
        "ShrinkSettings": "TranscodeSettings",
        "shrink_video": "transcode_video",
        "shrink": "transcode_videos",
    },
    "data.synthetic": {"COLOURS": "COLORS"},
    "demo.weights": {"resolve_demo_name": "resolve_model"},
    "files": {"write_whole": "atomic_write", "sha256": "file_sha256"},
    "loading": {"load_whole": "load_strict"},
    "retrieval.clips": {"Cut": "Windowing"},
    "retrieval.encoder": {"Encoder": "Embedder"},
    "retrieval.store": {"Part": "Segment"},
    "training.averaging": {"WeightAverage": "EMA"},
    "training.trunk_cache": {"TrunkCache": "FeatureCache"},
    "video.choice": {"choose": "lookup"},
}


class _Moved(ModuleType):
    """Stands for an old module; its names come from the new ones."""

    __path__: list[str] = []  # old packages hold old modules

    def __init__(self, name: str, sources: Sequence[str], renamed: Mapping[str, str]):
        super().__init__(name)
        self._sources, self._renamed = sources, renamed

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):
            for source in self._sources:
                module = importlib.import_module(source)
                if hasattr(module, new := self._renamed.get(name, name)):
                    return getattr(module, new)
        raise AttributeError(f"{self.__name__} has moved to {' and '.join(self._sources)}, which have no {name!r}.")


class _Loader(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        old = spec.name.removeprefix(f"{PACKAGE}.")
        return _Moved(spec.name, [f"{PACKAGE}.{new}" for new in MODULES[old].split()], NAMES.get(old, {}))

    def exec_module(self, module: ModuleType) -> None:
        assert isinstance(module, _Moved)
        warnings.warn(
            f"{module.__name__} has moved to {' and '.join(module._sources)}; the old name works until version 0.2.",
            FutureWarning,
            stacklevel=2,
        )


class FindMoved(MetaPathFinder):
    """Finds the old modules, after all other finders."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] != PACKAGE or name.removeprefix(f"{PACKAGE}.") not in MODULES:
            return None
        return ModuleSpec(name, _Loader(), is_package=True)


sys.meta_path.append(FindMoved())
