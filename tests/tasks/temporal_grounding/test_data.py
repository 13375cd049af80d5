"""Sentences about features on disk: whole videos, clips, parts of videos; batches."""

import json

import numpy as np
import pytest
import torch

from internvideo_hf.data.records import ManifestError
from internvideo_hf.tasks.protocol import QueryData
from internvideo_hf.tasks.temporal_grounding.data import QueryDataset, QueryFeatures, Sample, VideoRows, collate
from internvideo_hf.tasks.temporal_grounding.queries import Query

RULE = QueryData(stride=10, num_frames=10, fps=10)  # a row a second, around half a second past it
CLIP = {"annotation": "a", "number": 0, "source": "whole", "source_start": 2.0, "source_end": 5.0}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "features").mkdir()
    for name, rows in (("one", 4), ("whole", 8), ("own", 3)):
        np.save(tmp_path / f"features/{name}.npy", np.arange(rows, dtype=np.float32)[:, None])
    return tmp_path


def test_videos_have_their_rows_and_clips_theirs_or_a_part_of_their_videos(root):
    queries = [Query("one", "a"), Query("clip", "a", **CLIP), Query("own", "a", **{**CLIP, "source_end": 5.25})]
    features = QueryFeatures.open(RULE, root, [*queries, Query("gone", "a")])
    assert (features.videos, features.missing) == (["one", "clip", "own"], ["gone"])
    one, clip, own = (features.load(query.video) for query in queries)
    assert one.features.flatten().tolist() == [0, 1, 2, 3] and one.edges.tolist() == [0, 1, 2, 3, 4]
    # Rows around 2.5, 3.5 and 4.5 seconds of the whole video are 0.5, 1.5 and 2.5 seconds into the clip.
    assert clip.features.flatten().tolist() == [2, 3, 4] and clip.edges.tolist() == [0, 1, 2, 3]
    assert own.features.flatten().tolist() == [0, 1, 2] and own.edges.tolist() == [0, 1, 2, 3.25]
    with pytest.raises(ManifestError, match="gone: it has no features"):
        features.load("gone")
    with pytest.raises(ManifestError, match="none of its files is of one of the 1 videos, such as nine"):
        QueryFeatures.open(RULE, root, [Query("nine", "a")])


def test_descriptions_tell_times_and_durations(root):
    side = {"model": "enc", "revision": "r", "window": 8, "stride": 4, "fps": 8.0, "duration": 2.9}
    (root / "features/one.json").write_text(json.dumps(side))
    features = QueryFeatures.open(QueryData(), root, [Query("one", "a")])
    assert features.load("one").edges.tolist() == [0, 0.75, 1.25, 1.75, 2.9]
    assert features.facts["encoder"] == "enc" and features.folder.folder == root / "features"
    with pytest.raises(ManifestError, match=r"own: .*frames a second.* Set data.queries.stride"):
        QueryFeatures.open(QueryData(), root, [Query("one", "a"), Query("own", "a")]).load("own")


def test_a_dataset_leaves_out_what_has_no_features(root):
    queries = [Query("one", "a", 1, 2), Query("gone", "a", 1, 2), Query("one", "b", 0, 4)]
    words = {"a": torch.zeros(2, 3), "b": torch.ones(4, 3)}
    dataset = QueryDataset(queries, QueryFeatures.open(RULE, root, queries), words)
    assert len(dataset) == 2 and dataset[1].words is words["b"] and dataset[1].query is queries[2]
    batch = collate([dataset[0], dataset[1]], keep_edges=True)
    assert batch["labels"].tolist() == [[1, 1], [0, 3]] and batch["videos"] == ["one", "one"]
    assert batch["text_mask"].sum(dim=1).tolist() == [2, 4] and batch["text_features"].shape == (2, 4, 3)


def test_a_batch_keeps_lengths_apart():
    samples = [
        Sample(Query("v", "a", 0, 1), VideoRows(torch.ones(rows, 2), np.arange(rows + 1.0)), torch.ones(1, 3))
        for rows in (2, 4)
    ]
    batch = collate(samples, keep_edges=True)
    assert batch["feature_mask"].tolist() == [[True, True, False, False], [True] * 4]
    assert batch["features"].sum(dim=(1, 2)).tolist() == [4, 8]
    assert batch["edges"][0, :3].tolist() == [0, 1, 2] and batch["edges"][0, 3:].isnan().all()
    assert "edges" not in collate(samples)
    unknown = [sample._replace(query=Query("v", "a")) for sample in samples]
    assert "labels" not in collate(unknown)
