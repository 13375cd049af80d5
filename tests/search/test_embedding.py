"""From files to rows, with an executor, an encoder and a store that record their calls."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from internvideo_hf.search.clips import CHUNK_FRAMES, Clips, Windowing
from internvideo_hf.search.embedding import Account, embed_videos
from internvideo_hf.search.stores.local import LocalStore
from internvideo_hf.search.stores.segments import Video
from internvideo_hf.search.sync import Todo
from internvideo_hf.video.errors import VideoDecodeError

PIECE = 4  # clips that fit in one piece


class Encoder:
    """Embeds clips whose pixels are one number as that number; counts batches."""

    def __init__(self):
        self.video_processor = SimpleNamespace(num_clips=1, num_crops=1, num_frames=CHUNK_FRAMES // PIECE)
        self.batches, self.device = [], torch.device("cpu")

    def embed_clips(self, pixels):
        self.batches.append(len(pixels))
        return torch.as_tensor(pixels).reshape(-1, 1)


class Executor:
    """Yields prepared results; the numbers of clips show in their pixels."""

    def __init__(self, **lengths):
        self.lengths = lengths

    def map_ordered(self, task, items, workers, name_of=str, *, timeout=None):
        for path, numbers in items:
            length = self.lengths[path]
            if isinstance(length, Exception):
                yield (path, numbers), length
                continue
            numbers = tuple(range(min(length, PIECE))) if numbers is None else numbers
            spans = np.array([[i, i + 1.0] for i in range(length)])
            result = Clips(f"content {path}", spans, numbers, np.array(numbers, dtype=np.float32), 1, 1)
            asked = next(item for item in items if item[0] == path and item[1] in (None, numbers))
            yield asked, result


@pytest.fixture
def store():
    return LocalStore({"model": "m", "fingerprint": "f", "window": 1, "stride": None, "dtype": "float32"})


def embed(todo, store, encoder=None, batch_size=3, **lengths):
    done = []
    failures = embed_videos(
        {path: Todo(*rest) for path, *rest in todo},
        store,
        encoder or Encoder(),
        Windowing(1.0),
        executor=Executor(**lengths),
        batch_size=batch_size,
        on_done=lambda count, total: done.append((count, total)),
    )
    return failures, done


def test_long_videos_come_in_pieces_and_batches_are_full_across_videos(store):
    encoder = Encoder()
    failures, done = embed([("a",), ("b",)], store, encoder, a=10, b=3)
    assert failures == [] and encoder.batches == [3, 3, 1, 3, 3]  # the first pieces are a shard
    rows = {clip: value for clip, (value,) in zip(store.clips(range(13)), store.embeddings().tolist(), strict=True)}
    assert rows == {(path, i, i + 1): i for path, count in (("a", 10), ("b", 3)) for i in range(count)}
    assert store.known().missing == {} and len(store.segments) == 1
    assert done == [(0, 2), (1, 2), (1, 2), (2, 2)]


def test_errors_are_of_their_video_and_the_others_are_there(store):
    lengths = {"a": OSError("gone"), "b": VideoDecodeError("x", "no video", "Leave it out."), "c": 2}
    failures, done = embed([("a",), ("b",), ("c",)], store, **lengths)
    assert {error.source: error.cause for error in failures} == {"a": "it cannot be read (gone)", "b": "no video"}
    assert list(store.known().videos) == ["c"] and done[-1] == (3, 3)


def test_the_rest_of_another_content_is_refused(store):
    embed([("a",)], store, a=3)
    failures, _ = embed([("a", (1, 2), "another content"), ("b", (0, 2), "content b")], store, a=3, b=3)
    assert [error.cause for error in failures] == ["its content changed while it was read"]
    assert store.known().missing == {"b": (1,)} and len(store) == 5


def test_an_interrupted_run_keeps_what_is_embedded(store):
    encoder = Encoder()
    plain = encoder.embed_clips

    def until_killed(pixels):
        if len(encoder.batches) == 2:
            raise KeyboardInterrupt
        return plain(pixels)

    encoder.embed_clips = until_killed
    with pytest.raises(KeyboardInterrupt):
        embed([("a",)], store, encoder, a=10)
    assert store.known().missing == {"a": (4, 5, 6, 7, 8, 9)} and len(store) == 4


def test_videos_that_an_earlier_run_began_follow_the_first_pieces_of_others():
    todo = {"/begun": Todo((1, 2), "x"), "/new": Todo()}
    account = Account(todo, Encoder().video_processor, lambda done, total: None)
    assert account.next_pieces() == [("/new", None)]
    assert account.take(("/new", None), Video("/new", 1, 1, "y", 3), 1)
    assert account.next_pieces() == [("/begun", (1, 2)), ("/new", (1, 2))]
    assert account.next_pieces() == []
