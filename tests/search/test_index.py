"""The index: embedding, updates, search and storage."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from search.gallery import Decodes, gallery, picture, write
from transformers import AutoModel, AutoProcessor

from internvideo_hf import VideoDecodeError, VideoIndex
from internvideo_hf.search import clips
from internvideo_hf.search import index as index_module
from internvideo_hf.search.stores import segments


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Return a gallery that no test changes."""
    return gallery(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def whole(small_folder, videos) -> VideoIndex:
    """Its index, each video one clip, that no test changes."""
    index = VideoIndex(small_folder)
    assert index.add([videos]).failures == []
    return index


@pytest.fixture
def own(tmp_path):
    """Return a gallery that the test may change."""
    return gallery(tmp_path / "videos")


@pytest.fixture
def decodes(monkeypatch) -> Decodes:
    return Decodes(monkeypatch)


def test_embeddings_are_those_of_processor_and_model(small_folder, videos, whole):
    model, processor = AutoModel.from_pretrained(small_folder).eval(), AutoProcessor.from_pretrained(small_folder)
    for row, (path, start, end) in enumerate(whole.clips):
        inputs = processor(videos=[path], text=["red"], return_tensors="pt")
        with torch.no_grad():
            expected = model(**inputs)
        torch.testing.assert_close(whole.embeddings[row], expected.video_embeds[0], atol=1e-5, rtol=1e-5)
        assert (start, end) == (0.0, 4.0 if path.endswith("two.mp4") else 1.2)
    text = whole.encoder.embed_texts(["red"])
    torch.testing.assert_close(text, expected.text_embeds, atol=1e-5, rtol=1e-5)


def test_text_finds_the_clips_in_the_order_of_their_cosines(whole):
    hits = whole.search("something green", top_k=3)
    cosines = whole.embeddings @ whole.encoder.embed_texts(["something green"])[0]
    assert [hit.similarity for hit in hits] == pytest.approx(cosines.sort(descending=True)[0][:3].tolist(), abs=1e-6)
    assert hits.clips == 4 and hits.query == "something green"
    everything = whole.search("something green", top_k=100)
    assert len(everything) == 4
    assert sum(hit.probability for hit in everything) == pytest.approx(1)
    expected = (cosines * whole.encoder.logit_scale).softmax(0).sort(descending=True)[0]
    assert [hit.probability for hit in everything] == pytest.approx(expected.tolist(), abs=1e-4)


def test_video_and_image_find_what_looks_like_them(whole, videos, tmp_path):
    hit = whole.search(video=videos / "red.mp4")[0]
    assert hit.video == str(videos / "red.mp4") and hit.similarity == pytest.approx(1, abs=1e-5)
    assert hit.z is None and hit.matches is None
    Image.fromarray(picture("green")).save(tmp_path / "green.png")
    for image in (tmp_path / "green.png", picture("green"), Image.fromarray(picture("green"))):
        assert whole.search(image=image)[0].video == str(videos / "green.mp4")


def test_an_embedding_finds_what_its_text_or_video_finds(whole, videos):
    text, video = "something green", videos / "red.mp4"
    by_text = whole.search_embedding(whole.encoder.embed_texts([text]), text, is_text=True, top_k=2)
    by_video = whole.search_embedding(whole.encoder.embed_video(str(video)), str(video))
    assert by_text == whole.search(text, top_k=2) and by_text.calibration is not None
    assert by_video == whole.search(video=video) and by_video.calibration is None
    with pytest.raises(ValueError, match="top_k=0"):
        whole.search_embedding(whole.encoder.embed_texts([text]), text, top_k=0)


def test_a_query_is_one_of_three(whole, videos, tmp_path):
    for query in ({}, {"text": "a", "video": videos / "red.mp4"}):
        with pytest.raises(ValueError, match="one of text, video and image"):
            whole.search(**query)
    with pytest.raises(ValueError, match="empty"):
        whole.search(" ")
    with pytest.raises(ValueError, match="tokens"):
        whole.search("word " * 100)
    with pytest.raises(ValueError, match="not an image file"):
        whole.search(image=videos / "red.mp4")
    with pytest.raises(VideoDecodeError, match="none.mp4"):
        whole.search(video=tmp_path / "none.mp4")
    with pytest.raises(ValueError, match="top_k=0"):
        whole.search("a", top_k=0)


def test_windows_have_the_times_of_what_they_show(small_folder, videos):
    index = VideoIndex(small_folder, window=1.0)
    index.add([videos / "two.mp4"])
    assert sorted(span[1:] for span in index.clips) == [(0, 1), (1, 2), (2, 3), (3, 4)]
    hits = index.search(image=picture("green"), top_k=2)
    assert sorted((hit.start, hit.end) for hit in hits) == [(2, 3), (3, 4)]
    hits = index.search(image=picture("grey"), top_k=2)
    assert sorted((hit.start, hit.end) for hit in hits) == [(0, 1), (1, 2)]
    assert len(index.search(image=picture("grey"), per_video=1)) == 1
    assert index.search(image=picture("green"))[0].time in ("0:02-0:03", "0:03-0:04")


def test_long_videos_come_in_pieces_and_lose_nothing(small_folder, tmp_path, decodes, monkeypatch):
    monkeypatch.setattr(clips, "CHUNK_FRAMES", 16)
    video = write(tmp_path / "long.mp4", ("red", 60), ("blue", 60))
    index = VideoIndex(small_folder, window=0.5)
    index.add([video], batch_size=5)
    assert [numbers for _, numbers in decodes] == [None, tuple(range(8, 16)), tuple(range(16, 24))]
    assert sorted(span[1:] for span in index.clips) == [(i / 2, i / 2 + 0.5) for i in range(24)]
    red = {hit.start for hit in index.search(image=picture("red"), top_k=12)}
    assert red == {i / 2 for i in range(12)}


def test_only_what_changed_is_decoded(small_folder, own, tmp_path, decodes):
    index = VideoIndex(small_folder, folder=tmp_path / "index")
    first = index.update([own])
    assert len(first.new) == 4 and decodes.names() == ["blue.mkv", "green.mp4", "red.mp4", "two.mp4"]
    before = dict(zip((path for path, *_ in index.clips), index.embeddings, strict=True))

    index = VideoIndex.load(tmp_path / "index")
    assert len(index.update([own]).unchanged) == 4 and decodes.names() == []

    os.utime(own / "red.mp4", ns=(1, 1))  # touched
    os.replace(own / "green.mp4", own / "deep/moved.mp4")
    shutil.copy(own / "two.mp4", own / "copy.mp4")
    write(own / "deep/blue.mkv", ("blue", 6))
    write(own / "new.mp4", ("grey", 5))
    change = index.update([own])
    assert decodes.names() == ["blue.mkv", "new.mp4"]
    named = {name: [os.path.basename(path) for path in value] for name, value in vars(change).items()}
    assert named == {
        "new": ["new.mp4"],
        "changed": ["blue.mkv"],
        "moved": ["moved.mp4"],
        "copied": ["copy.mp4"],
        "removed": [],
        "unchanged": ["red.mp4", "two.mp4"],
        "failures": [],
    }
    after = dict(zip((path for path, *_ in index.clips), index.embeddings, strict=True))
    assert torch.equal(after[str(own / "deep/moved.mp4")], before[str(own / "green.mp4")])
    assert torch.equal(after[str(own / "copy.mp4")], before[str(own / "two.mp4")])
    assert not torch.equal(after[str(own / "deep/blue.mkv")], before[str(own / "deep/blue.mkv")])

    (own / "red.mp4").unlink()
    assert index.add([own]).removed == []
    assert index.update([own]).removed == [str(own / "red.mp4")]
    (own / "copy.mp4").unlink()
    assert index.update().removed == [str(own / "copy.mp4")]
    assert decodes.names() == [] and len(index.videos) == len(index) == 4
    assert VideoIndex.load(tmp_path / "index").videos == index.videos


def test_other_folders_are_left_alone(small_folder, own, tmp_path):
    other = write(tmp_path / "other/red.mp4", ("red", 5))
    index = VideoIndex(small_folder)
    index.update([other])
    index.update([own])
    assert str(other) in index.videos and len(index.videos) == 5
    assert len(index.remove([own])) == 4 and index.videos == [str(other)]
    with pytest.raises(ValueError, match="not in the index, which holds 1"):
        index.remove([own / "red.mp4"])


def test_a_killed_run_is_taken_up_where_it_was(small_folder, own, tmp_path, decodes, monkeypatch):
    embed, calls = index_module.Embedder.embed_clips, []

    def embed_until_killed(self, pixels):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return embed(self, pixels)

    monkeypatch.setattr(index_module.Embedder, "embed_clips", embed_until_killed)
    monkeypatch.setattr("internvideo_hf.utils.journal.CHECKPOINT_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(clips, "CHUNK_FRAMES", 12)
    write(own / "two.mp4", ("grey", 60), ("green", 60))
    index = VideoIndex(small_folder, window=1.0, folder=tmp_path / "index")
    with pytest.raises(KeyboardInterrupt):
        index.update([own / "two.mp4", own], batch_size=3)
    assert len(VideoIndex.load(tmp_path / "index")) == 9  # three batches of three: six windows, and three files
    monkeypatch.setattr(index_module.Embedder, "embed_clips", embed)
    decodes.clear()
    index = VideoIndex.load(tmp_path / "index")
    change = index.update([own])
    assert ("two.mp4", tuple(range(6, 12))) in decodes and ("two.mp4", None) not in decodes
    assert len(change.new) == 1 and len(change.unchanged) == 3 and not change.failures
    again = VideoIndex(small_folder, window=1.0)
    again.add([own])
    found, expected = (sorted(zip(i.clips, i.embeddings.tolist(), strict=True)) for i in (index, again))
    assert [clip for clip, _ in found] == [clip for clip, _ in expected] and len(found) == 15
    np.testing.assert_allclose([row for _, row in found], [row for _, row in expected], atol=1e-5)


def test_damaged_files_are_reported_and_the_others_are_found(small_folder, own, tmp_path):
    (own / "text.mp4").write_text("no video")
    (own / "empty.mp4").touch()
    index = VideoIndex(small_folder, folder=tmp_path / "index")
    change = index.update([own])
    assert len(change.new) == 4 and len(index.videos) == 4
    assert sorted(os.path.basename(error.source) for error in change.failures) == ["empty.mp4", "text.mp4"]
    assert all(str(error).startswith(error.source) for error in change.failures)
    write(own / "text.mp4", ("red", 5))
    assert index.update([own]).new == [str(own / "text.mp4")]
    (own / "red.mp4").write_text("damaged now")
    change = index.update([own])
    assert str(own / "red.mp4") not in index.videos and len(change.failures) == 2


def test_what_is_away_stays_in_the_index(small_folder, own, tmp_path):
    index = VideoIndex(small_folder)
    index.update([own])
    own.rename(tmp_path / "away")
    change = index.update([own, own / "red.mp4"])
    assert len(change.failures) == 2 and change.removed == [] and len(index.videos) == 4


def test_an_index_of_nothing_leaves_no_folder(small_folder, tmp_path):
    (tmp_path / "bad.mp4").write_text("no video")
    index = VideoIndex(small_folder, folder=tmp_path / "index")
    assert len(index.update([tmp_path / "bad.mp4"]).failures) == 1
    assert not (tmp_path / "index").exists()
    with pytest.raises(ValueError, match="The index is empty"):
        index.search("anything")


def test_two_models_do_not_mix(small_folder, viclip_folder, own, tmp_path):
    index = VideoIndex(small_folder, folder=tmp_path / "index")
    index.add([own / "red.mp4"])
    for other in (viclip_folder, tmp_path / "other-processor", tmp_path / "other-weights"):
        if not other.exists():
            shutil.copytree(small_folder, other)
        if other.name == "other-processor":
            processor = AutoProcessor.from_pretrained(other)
            processor.video_processor.num_frames = 3
            processor.save_pretrained(other)
        if other.name == "other-weights":
            model = AutoModel.from_pretrained(other)
            with torch.no_grad():
                model.visual_projection.weight[0, 0] += 1e-3
            model.save_pretrained(other)
        loaded = VideoIndex.load(tmp_path / "index", model=other)
        with pytest.raises(ValueError, match="another model or processor"):
            loaded.add([own]) if other == viclip_folder else loaded.search("a dog")
    shutil.copytree(small_folder, tmp_path / "moved-model")
    assert VideoIndex.load(tmp_path / "index", model=tmp_path / "moved-model").search("a dog")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_loaded_is_what_was_saved(small_folder, videos, whole, tmp_path, dtype):
    index = VideoIndex(small_folder, window=1.0, dtype=dtype)
    index.add([videos])
    embeddings, clips = index.embeddings.clone(), index.clips
    index.save(tmp_path / "index")
    loaded = VideoIndex.load(tmp_path / "index")
    assert loaded.embeddings.dtype == getattr(torch, dtype)
    assert torch.equal(loaded.embeddings, embeddings) and loaded.clips == clips
    assert loaded.search("a dog") == index.search("a dog")
    with pytest.raises(ValueError, match="VideoIndex.load"):
        VideoIndex(small_folder, folder=tmp_path / "index")
    assert not [path for path in (tmp_path / "index").iterdir() if path.name.startswith(".")]


def test_a_damaged_index_says_so(small_folder, videos, tmp_path):
    with pytest.raises(ValueError, match="holds no index"):
        VideoIndex.load(tmp_path)
    index = VideoIndex(small_folder, folder=tmp_path / "index")
    index.add([videos / "red.mp4"])
    header = json.loads((tmp_path / "index/index.json").read_text())
    rows = tmp_path / "index" / header["parts"][0]
    rows.write_bytes(rows.read_bytes()[:-5])
    with pytest.raises(ValueError, match="missing or damaged"):
        VideoIndex.load(tmp_path / "index")
    (tmp_path / "index/index.json").write_text(json.dumps(header | {"format": 99}))
    with pytest.raises(ValueError, match="format 99"):
        VideoIndex.load(tmp_path / "index")
    (tmp_path / "index/index.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        VideoIndex.load(tmp_path / "index")


@pytest.mark.slow
def test_several_processes_do_what_one_does(small_folder, videos, tmp_path):
    one, two = VideoIndex(small_folder, window=0.4), VideoIndex(small_folder, window=0.4)
    one.add([videos], jobs=1)
    two.add([videos], jobs=2, batch_size=3)
    rows = [sorted(zip(index.clips, index.embeddings.tolist(), strict=True)) for index in (one, two)]
    assert [clip for clip, _ in rows[0]] == [clip for clip, _ in rows[1]] and len(rows[0]) == 19
    np.testing.assert_allclose([row for _, row in rows[0]], [row for _, row in rows[1]], atol=1e-5)


def test_small_parts_are_merged_and_large_ones_kept(small_folder, videos, tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT_ROWS", 2)
    index = VideoIndex(small_folder, folder=tmp_path / "index")
    for name in ("red.mp4", "green.mp4", "two.mp4"):
        index.add([videos / name])
    assert [len(part) for part in index.store.segments] == [2, 1]
    kept = index.store.segments[0].file
    index.remove([videos / "two.mp4"])
    assert [path.name for path in (tmp_path / "index").glob("rows-*")] == [kept]
    assert index.search(video=videos / "green.mp4")[0].video == str(videos / "green.mp4")


def test_frames_in_a_folder_are_a_video_without_times(small_folder, tmp_path):
    (tmp_path / "frames").mkdir()
    for number in range(3):
        Image.fromarray(picture("red")).save(tmp_path / f"frames/{number}.png")
    index = VideoIndex(small_folder)
    index.add([tmp_path / "frames"])
    assert index.clips == [(str(tmp_path / "frames"), None, None)]
    hit = index.search("red")[0]
    assert hit.start is None and hit.time == "" and hit.thumbnail().size == (48, 32)
    cut = VideoIndex(small_folder, window=1.0)
    assert "no times" in str(cut.add([tmp_path / "frames"]).failures[0])


def test_a_model_without_texts_searches_by_video(mae_folder, videos):
    index = VideoIndex(mae_folder)
    index.add([videos / "red.mp4", videos / "green.mp4"])
    assert index.search(video=videos / "green.mp4")[0].video == str(videos / "green.mp4")
    with pytest.raises(ValueError, match="no get_video_features.*Search by video or image"):
        index.search("a dog")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "above 0"),
        ({"window": 1, "stride": 2}, "leave parts"),
        ({"stride": 2}, "needs a window"),
        ({"dtype": "int8"}, "float32, float16"),
    ],
)
def test_a_meaningless_option_is_refused(small_folder, options, message):
    with pytest.raises(ValueError, match=message):
        VideoIndex(small_folder, **options)
    with pytest.raises(ValueError, match="jobs=0"):
        VideoIndex(small_folder).add(["x.mp4"], jobs=0)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted in /proc")
def test_memory_descriptors_and_threads_stay_flat_over_300_updates(small_folder, own, tmp_path):
    contents = [(own / name).read_bytes() for name in ("red.mp4", "green.mp4")]
    index = VideoIndex(small_folder, folder=tmp_path / "index", window=0.5)
    used = []
    for number in range(300):
        (own / "red.mp4").write_bytes(contents[number % 2])
        os.utime(own / "red.mp4", ns=(number, number))
        (own / "bad.mp4").write_bytes(b"no video" * (number + 1))
        change = index.update([own])
        assert len(change.failures) == 1 and len(change.changed) == (number > 0)
        with open("/proc/self/statm") as file:
            memory = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        used.append((memory, len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))))
    memory, descriptors, threads = (np.array(column) for column in zip(*used, strict=True))
    assert memory[250:].mean() - memory[50:100].mean() < 20e6
    assert descriptors[250:].max() <= descriptors[50:100].max() and threads[250:].max() <= threads[50:100].max()
    assert len(list((tmp_path / "index").iterdir())) == 3, "header, rows and null captions"
