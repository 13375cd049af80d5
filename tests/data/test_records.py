"""Records of files and folders."""

import json

import pytest
from object_stores import new_memory, write

from internvideo_hf.data.folders import find_videos, name_videos
from internvideo_hf.data.records import ManifestError, are_numbers, list_path, read_json, read_records
from internvideo_hf.utils.storage import StoragePath


def test_places_and_records_of_each_kind(tmp_path):
    (tmp_path / "a.csv").write_text("x.mp4,1\n")
    assert list(read_records(tmp_path / "a.csv")) == [("line 1", {"line": "x.mp4,1", "delimiter": ","})]
    (tmp_path / "clips/walk").mkdir(parents=True)
    (tmp_path / "clips/walk/a.mp4").touch()
    assert list(read_records(tmp_path / "clips")) == [("walk/a.mp4", {"file": "walk/a.mp4", "class_folder": "walk"})]


def test_a_list_that_is_not_there_is_met_with_what_is(tmp_path, monkeypatch):
    (tmp_path / "walk").mkdir()
    (tmp_path / "mine.csv").touch()
    with pytest.raises(ManifestError, match=r"val.csv: it cannot be opened .*holds mine.csv, walk/\. Check"):
        list(read_records(tmp_path / "val.csv"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ManifestError, match=r"; the working directory holds mine.csv, walk/\. Check the path\.$"):
        list(read_records("val.csv"))
    with pytest.raises(ManifestError, match=r"^videos: it cannot be opened \(No such file or directory\); the work"):
        list(read_records("videos"))
    for name in ("train.csv", "training.txt", "train.json"):
        (tmp_path / name).touch()
    with pytest.raises(ManifestError, match=r"no train.tsv, but train.csv, train.json, training.txt; name one"):
        list_path(tmp_path, "train.tsv")
    assert list_path(tmp_path, "train.csv") == tmp_path / "train.csv"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "it is not valid JSON"),
        (b"[" * 100_000, "it is not valid JSON"),
        (b"9" * 5000, "it is not valid JSON"),
        (b"\xff", "it is not text in UTF-8"),
    ],
)
def test_json_that_cannot_be_read_is_named(tmp_path, content, message):
    file = tmp_path / "a.json"
    file.write_bytes(content)
    with pytest.raises(ManifestError, match=f"a.json: {message}"):
        read_json(file)
    with pytest.raises(ManifestError, match="none.json: it cannot be opened"):
        read_json(tmp_path / "none.json")
    file.write_text('\ufeff{"a": 1}', encoding="utf-8")
    assert read_json(file) == {"a": 1}


def test_lists_of_finite_numbers():
    assert are_numbers([1, 2.5]) and are_numbers((0.0,), 1) and are_numbers([])
    for value in ([1, True], [1, "2"], [1, float("nan")], [10**400], [1, None], 3, None, "12", {1: 2}):
        assert not are_numbers(value)
    assert not are_numbers([1, 2], 3)


@pytest.fixture
def shards(tmp_path):
    """Two shards of 100,000 rows each, in groups of 5,000: a path, a caption, and 100 bytes that are no text."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    for number in range(2):
        first = number * 100_000
        table = pyarrow.table(
            {
                "video": [f"{i:06d}.mp4" for i in range(first, first + 100_000)],
                "caption": ["a dog runs"] * 100_000,
                "embedding": pyarrow.array([bytes([i % 251]) * 100 for i in range(100_000)]),
            }
        )
        options = {"row_group_size": 5000, "compression": "none", "use_dictionary": False}
        parquet.write_table(table, tmp_path / f"train-{number}.parquet", **options)
    return tmp_path


@pytest.fixture
def ranges(monkeypatch):
    """Count the bytes that are read of the lists that are opened from now on."""
    found = []
    plain_open = StoragePath.open

    def counting_open(self, *arguments, **options):
        file = plain_open(self, *arguments, **options)
        plain_read = file.read

        def read(size=-1):
            found.append(len(content := plain_read(size)))
            return content

        return _Counting(file, read)

    monkeypatch.setattr(StoragePath, "open", counting_open)
    return found


class _Counting:
    """A file whose reads are counted."""

    def __init__(self, file, read):
        self.file, self.read = file, read

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()


@pytest.mark.slow
def test_parquet_is_read_a_row_group_at_a_time_and_by_columns(shards, ranges):
    root = new_memory()
    for file in shards.iterdir():
        write(f"{root}/{file.name}", file.read_bytes())
    size = 2 * (shards / "train-0.parquet").stat().st_size
    assert size > 20e6
    rows = read_records(f"{root}/train-*.parquet", lambda schema: ["video"])
    assert next(rows) == ("row 1 of train-0.parquet", {"video": "000000.mp4"})
    # A chunk of 20,000 rows is four row groups; of 40 in both shards.
    assert sum(ranges) < 1e6
    rows.close()
    ranges.clear()
    found = find_videos([f"{root}/train-*.parquet"], metadata={})
    assert len(found) == 200_000 and found[-1] == f"{root}/199999.mp4"
    assert sum(ranges) < 0.5 * size  # what is no text or number is not fetched


def test_shards_are_a_folder_or_a_pattern_of_the_disk_or_a_store(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (tmp_path / "lists").mkdir()
    for name in ("b", "a"):
        parquet.write_table(pyarrow.table({"video": [f"{name}.mp4"]}), tmp_path / f"lists/{name}.parquet")
        write(f"memory://shards-of-{tmp_path.name}/{name}.parquet", (tmp_path / f"lists/{name}.parquet").read_bytes())
    for source in (tmp_path / "lists", tmp_path / "lists/*.parquet", f"memory://shards-of-{tmp_path.name}"):
        root = str(source).removesuffix("/*.parquet")
        expected = [(f"{root}/a.mp4", "a.mp4"), (f"{root}/b.mp4", "b.mp4")]
        assert name_videos([str(source)], extra_columns=True) == expected
    with pytest.raises(ManifestError, match="none-"):
        find_videos([str(tmp_path / "lists/none-*.parquet")])


def test_lists_of_any_text_are_read_from_a_store():
    root = new_memory()
    write(f"{root}/a.jsonl", b"".join(json.dumps({"video": f"{i}.mp4"}).encode() + b"\n" for i in range(3)))
    write(f"{root}/b.csv", b'\xef\xbb\xbfvideo;caption\r\nx.mp4;"a;b"\r\n')
    write(f"{root}/c.json", b'[{"video": "y.mp4"}]')
    assert [record["video"] for _, record in read_records(f"{root}/a.jsonl")] == ["0.mp4", "1.mp4", "2.mp4"]
    assert list(read_records(f"{root}/b.csv")) == [("line 2", {"video": "x.mp4", "caption": "a;b"})]
    assert list(read_records(f"{root}/c.json")) == [("record 1", {"video": "y.mp4"})]
    assert list_path(root, "b.csv") == StoragePath(f"{root}/b.csv")
    write(f"{root}/clips/walk/a.mp4", b"x")
    found = list(read_records(f"{root}/clips"))
    assert found == [("walk/a.mp4", {"file": "walk/a.mp4", "class_folder": "walk"})]


def test_parquet_without_its_library_names_it(shards, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match="pip install pyarrow"):
        next(read_records(shards / "train-0.parquet"))
