"""Videos inside parquet, Arrow and tar: the bytes that were put in, by every reader, and nothing left on the disk."""

import io
import os
import pickle
import tarfile
import tempfile

import pyarrow as pa
import pytest
from object_stores import new_memory, write
from pyarrow import parquet
from video.clips import write_video

from internvideo_hf import VideoDecodeError, VideoReader
from internvideo_hf.data.contents import content_hash, exists, stamp
from internvideo_hf.video.members import member_name, read_member, split_member, video_column

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def table(values, **columns) -> pa.Table:
    return pa.table({"video": pa.array(values, STRUCT), **columns})


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return [write_video(folder / f"{number}.mp4", 10 + number, size=(24, 32)) for number in range(5)]


@pytest.fixture
def rows(clips):
    return [{"bytes": clip.read_bytes(), "path": f"deep/{clip.name}"} for clip in clips]


@pytest.fixture(params=["parquet", "arrow", "tar"])
def members(request, rows, clips, tmp_path):
    """Name the same videos in a file of each kind."""
    file = tmp_path / f"x.{request.param}"
    if request.param == "parquet":
        parquet.write_table(table(rows), file, row_group_size=2)
    elif request.param == "arrow":
        with pa.ipc.new_stream(str(file), table(rows).schema) as writer:
            writer.write_table(table(rows), max_chunksize=2)
    else:
        with tarfile.open(file, "w") as tar:
            for clip in clips:
                tar.add(clip, f"./deep/{clip.name}")
        return [f"{file}/deep/{clip.name}" for clip in clips]
    return [member_name(str(file), row, f"deep/{clip.name}") for row, clip in enumerate(clips)]


def test_the_bytes_are_those_that_were_put_in(members, clips):
    for number in (0, 1, 4, 2, 2, 3, 0):
        assert read_member(members[number]) == clips[number].read_bytes()


def test_frames_are_those_of_the_file_and_nothing_stays(members, clips, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    with VideoReader(members[3]) as reader, VideoReader(clips[3]) as plain:
        assert reader.name == members[3] and reader.num_frames == 13
        assert (reader.read([0, 12]) == plain.read([0, 12])).all()
        again = pickle.loads(pickle.dumps(reader))
        assert (again.read([12]) == plain.read([12])).all()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_forked_child_reads_for_itself(members, clips):
    assert read_member(members[0]) == clips[0].read_bytes()
    if (child := os.fork()) == 0:
        right = all(read_member(members[n]) == clips[n].read_bytes() for n in (4, 1, 2))
        os._exit(0 if right else 1)
    assert read_member(members[3]) == clips[3].read_bytes()
    assert os.waitpid(child, 0)[1] == 0


def test_content_and_existence_are_the_video_s_and_the_stamp_the_file_s(members, clips):
    assert content_hash(members[2]) == content_hash(str(clips[2]))
    assert stamp(members[2]) == stamp(split_member(members[2])[0])
    assert exists(members[2]) and not exists(members[2].replace("x.", "none."))


def test_a_file_that_is_written_again_is_read_again(rows, clips, tmp_path):
    file = tmp_path / "x.parquet"
    parquet.write_table(table(rows[:1]), file)
    assert read_member(f"{file}/0") == clips[0].read_bytes()
    parquet.write_table(table(rows[1:3]), file)
    assert read_member(f"{file}/0") == clips[1].read_bytes()


def test_an_object_that_is_written_again_is_read_again(rows, clips):
    address = f"{new_memory()}/x.parquet"
    for number in (0, 3):
        content = io.BytesIO()
        parquet.write_table(table(rows[number : number + 1]), content)
        write(address, content.getvalue())
        assert read_member(f"{address}/0/a.mp4") == clips[number].read_bytes()


def test_a_row_without_bytes_is_the_file_of_its_path(rows, clips, tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/a.mp4").write_bytes(clips[0].read_bytes())
    values = [{"bytes": None, "path": "videos/a.mp4"}, {"bytes": None, "path": str(clips[1])}, rows[2]]
    parquet.write_table(table(values), tmp_path / "x.parquet")
    counts = []
    for row in range(3):
        with VideoReader(f"{tmp_path}/x.parquet/{row}") as reader:
            counts.append(reader.num_frames)
    assert counts == [10, 11, 12]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("0", "neither bytes nor a path"),
        ("1/a.mp4", "empty video"),
        ("2", "neither bytes nor a path"),
        ("9", "no row 9; there are 0 to 3"),
        ("-1", "no row -1"),
        ("a.mp4", "no row a.mp4"),
        ("3", "which may be a row of its own kind"),
    ],
)
def test_a_row_that_is_no_video_is_named(tmp_path, name, words):
    loop = {"bytes": None, "path": "x.parquet/3"}
    values = [{"bytes": None, "path": None}, {"bytes": b"", "path": "a.mp4"}, None, loop]
    parquet.write_table(table(values), tmp_path / "x.parquet")
    with pytest.raises(VideoDecodeError, match=words) as raised:
        VideoReader(f"{tmp_path}/x.parquet/{name}")
    assert raised.value.source == f"{tmp_path}/x.parquet/{name}"


def test_damage_is_that_of_the_video(rows, tmp_path):
    whole = io.BytesIO()
    parquet.write_table(table(rows), whole, row_group_size=1, compression="gzip", write_statistics=False)
    content = bytearray(whole.getvalue())
    content[100:400] = bytes(300)
    (tmp_path / "x.parquet").write_bytes(content)
    (tmp_path / "none.parquet").write_bytes(b"PAR1 and nothing else")
    (tmp_path / "cut.tar").write_bytes(bytes(range(256)) * 4)
    with pytest.raises(VideoDecodeError, match="the file around it is damaged"):
        VideoReader(f"{tmp_path}/x.parquet/0")
    assert read_member(f"{tmp_path}/x.parquet/4") == rows[4]["bytes"]
    for name in ("none.parquet/0", "cut.tar/a.mp4"):
        with pytest.raises(VideoDecodeError, match="the file around it cannot be opened"):
            VideoReader(f"{tmp_path}/{name}")


def test_members_that_are_not_there_are_named(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in ("1.txt", "1.json"):
            tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(VideoDecodeError, match=r"there is no video beside 1\.txt, 1\.json"):
        VideoReader(f"{tmp_path}/x.tar/1")
    with pytest.raises(VideoDecodeError, match=r"it holds no 2\.mp4"):
        VideoReader(f"{tmp_path}/x.tar/2.mp4")


def test_other_paths_are_no_members(clips, tmp_path):
    (tmp_path / "folder.tar").mkdir()
    (tmp_path / "folder.tar/a.mp4").write_bytes(clips[0].read_bytes())
    assert split_member(f"{tmp_path}/folder.tar/a.mp4") is None
    assert split_member("https://x.org/a.tar/b.mp4") is None
    assert split_member("s3://bucket/a.tar/b.mp4") == ("s3://bucket/a.tar", "b.mp4")
    assert split_member(f"{tmp_path}/none.tar/b.mp4") is None
    assert read_member(str(clips[0])) == str(clips[0])


@pytest.mark.parametrize(
    ("row", "name", "expected"),
    [
        (3, "deep/a.mp4", "/x.parquet/3/a.mp4"),
        (0, None, "/x.parquet/0"),
        (0, "..", "/x.parquet/0"),
        (0, "C:\\clips\\a.mp4", "/x.parquet/0/a.mp4"),
        (0, "a\nb.mp4", "/x.parquet/0"),
    ],
)
def test_rows_have_names(row, name, expected):
    assert member_name("/x.parquet", row, name) == expected


def test_the_column_of_videos_is_found():
    import datasets

    images = datasets.Features({"image": datasets.Image(), "clip": datasets.Video(), "n": datasets.Value("int64")})
    assert video_column(images.arrow_schema) == "clip"
    assert video_column(pa.schema([("a", pa.string()), ("mp4", pa.binary())])) == "mp4"
    assert video_column(pa.schema([("path", pa.string()), ("embedding", pa.binary())])) is None
    assert video_column(pa.schema([("a", STRUCT), ("video", STRUCT)])) == "video"
    with pytest.raises(OSError, match="the columns a, b are videos"):
        video_column(pa.schema([("a", STRUCT), ("b", STRUCT)]))
