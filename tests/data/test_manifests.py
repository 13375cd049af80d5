"""Manifests: every layout gives the intended rows, and every error names file and line."""

import json
import pickle
from pathlib import Path

import pytest

from internvideo_hf.data.layouts import LAYOUTS
from internvideo_hf.data.manifests import COLUMNS, TextLabelError, load_manifest, read_manifest
from internvideo_hf.data.records import ManifestError
from internvideo_hf.recipes.labels import load_labels

NAMES = ["a.mp4", "b c.mp4", "7010.webm", "video7.mp4", "abcdefghijk.mp4", "abcdefghijk_00:00:01.500.mp4"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the files that the lists below name; only their existence matters."""
    for name in NAMES:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "frames").mkdir()
    return tmp_path


def rows(folder: Path, name: str, content: str, **options) -> list[dict]:
    (folder / name).write_text(content, encoding="utf-8")
    found = list(read_manifest(folder / name, **options))
    assert all(list(row) == list(COLUMNS) for row in found)
    return [
        {k: v.removeprefix(f"{folder}/") if k == "video" else v for k, v in row.items() if v is not None}
        for row in found
    ]


SSV2 = [{"id": "7010", "label": "holding a pen", "template": "Holding [something]", "placeholders": ["a pen"]}]
MSRVTT = {
    "info": {},
    "videos": [{"video_id": "video7", "split": "test", "start time": 3.0, "end time": 9.0, "url": "x"}],
    "sentences": [{"video_id": "video7", "caption": "a man", "sen_id": 1}] * 2,
}
INTERNVID = {
    "YoutubeID": "abcdefghijk",
    "Start_timestamp": "00:00:01.500",
    "End_timestamp": "00:01:02.000",
    "Caption": "a cat",
    "UMT_Score": 0.4,
}
CLIP = {"caption": "a cat", "start": 1.5, "end": 62.0}
A0, BC, BC1 = {"video": "a.mp4", "label": 0}, {"video": "b c.mp4"}, {"video": "b c.mp4", "label": 1}
SENTENCE = {"video": "video7.mp4", "caption": "a man"}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("k.csv", "a.mp4 0\nb c.mp4 1\n", [A0, BC1]),
        ("k.csv", "a.mp4,0\r\nb c.mp4,1", [A0, BC1]),
        ("k.txt", "\ufeffa.mp4\t0\nb c.mp4\t1\n", [A0, BC1]),
        ("k.txt", "a.mp4\nb c.mp4\n", [{"video": "a.mp4"}, BC]),
        ("k.txt", "https://x.org/a.mp4?b=1\n", [{"video": "https://x.org/a.mp4?b=1"}]),
        ("s.list", "frames 37 2\n", [{"video": "frames", "label": 2, "num_frames": 37}]),
        ("p.txt", "a.mp4 0 -1 0\nframes 1 37 2\n", [A0, {"video": "frames", "label": 2, "num_frames": 37}]),
        ("n.csv", "label,path\n0,a.mp4\n", [A0]),
        ("n.csv", 'video,caption\na.mp4,"one,\ntwo"\n', [{"video": "a.mp4", "caption": "one,\ntwo"}]),
        ("n.csv", "video,start,end\na.mp4,0.5,2\n", [{"video": "a.mp4", "start": 0.5, "end": 2.0}]),
        ("n.json", '[{"video": "a.mp4", "caption": ["x", "y"]}]', [{"caption": c, "video": "a.mp4"} for c in "xy"]),
        ("n.jsonl", '{"video": "a.mp4", "label": 0.0}\n{"video": "b c.mp4", "label": null}\n', [A0, BC]),
        ("v.json", json.dumps(MSRVTT, indent=1), [SENTENCE] * 2),
        ("v.json", json.dumps(MSRVTT), [SENTENCE] * 2),
        ("v.csv", "key,vid_key,video_id,sentence\nret0,msr7,video7,a man\n", [SENTENCE]),
        ("i.jsonl", json.dumps(INTERNVID), [{"video": "abcdefghijk.mp4", **CLIP}]),
        ("i.json", json.dumps(INTERNVID), [{"video": "abcdefghijk.mp4", **CLIP}]),
    ],
)  # fmt: skip
def test_every_layout_gives_its_rows(folder, name, content, expected):
    assert rows(folder, name, content) == expected


def test_something_something_finds_the_class_of_a_template(folder):
    labels = load_labels("ssv2")
    found = rows(folder, "s.json", json.dumps(SSV2), labels=labels)
    assert found == [{"video": "7010.webm", "label": labels.index("Holding something"), "caption": "holding a pen"}]


def test_text_labels_and_data_root(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("lists") / "k.csv"
    elsewhere.write_text("a.mp4,riding a bike\n")
    row = next(read_manifest(elsewhere, folder, labels=["abseiling", "riding a bike"]))
    assert (row["video"], row["label"]) == (str(folder / "a.mp4"), 1)


def test_labels_that_are_names_are_numbered_in_order_of_the_names_or_as_told(folder):
    (folder / "k.csv").write_text("a.mp4; walk\nb c.mp4;ride, slowly\n")
    found = load_manifest(folder / "k.csv")
    assert (found.features["label"].names, found["label"][:]) == (["ride, slowly", "walk"], [1, 0])
    assert {name: value.dtype for name, value in found.features.items()} == COLUMNS
    assert load_manifest(folder / "k.csv", labels=["walk", "ride, slowly"])["label"][:] == [0, 1]
    with pytest.raises(TextLabelError, match="the label is the text 'walk'"):
        next(read_manifest(folder / "k.csv"))


def test_classes_that_are_called_by_numbers_are_never_counted(folder):
    """A label "1" is the name of the class 0 here, and no number."""
    (folder / "n.jsonl").write_text('{"video": "a.mp4", "label": "2"}\n{"video": "b c.mp4", "label": 1}\n')
    assert [row["label"] for row in read_manifest(folder / "n.jsonl", labels=["1", "2"])] == [1, 0]
    with pytest.raises(ManifestError, match="the label '2' is none of the 2 class names"):
        next(read_manifest(folder / "n.jsonl", labels=["1", "three"]))
    (folder / "n.csv").write_text("a.mp4,3\nb c.mp4,take 3\n")
    assert load_manifest(folder / "n.csv").features["label"].names == ["3", "take 3"]


KINETICS = """label,youtube_id,time_start,time_end,split
"riding, slowly",-abcdefghij,1,11,train
walking,klmnopqrstu,0,10,train
"""


def test_the_official_csv_of_kinetics_finds_its_files_at_any_depth(folder):
    """Names of files as the downloaders of Kinetics write them."""
    for name in ("k/riding/-abcdefghij_000001_000011.mp4", "k/walking/deep/klmnopqrstu_000000_000010.webm"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()
    (folder / "train.csv").write_text(KINETICS)
    found = load_manifest(folder / "train.csv")
    assert [Path(video).name for video in found["video"]] == [
        "-abcdefghij_000001_000011.mp4",
        "klmnopqrstu_000000_000010.webm",
    ]
    labels = found.features["label"].names
    assert (labels, found["label"][:]) == (["riding, slowly", "walking"], [0, 1])
    assert found["start"][:] == [None, None], "the files are cut"
    test = rows(folder, "test.csv", "youtube_id,time_start,time_end,split\nklmnopqrstu,0,10,test\n")
    assert test == [{"video": "k/walking/deep/klmnopqrstu_000000_000010.webm"}]
    with pytest.raises(ManifestError, match=r"line 3: there is no .*k/klmnopqrstu_000009_000019.mp4.*--data-root"):
        rows(folder, "bad.csv", KINETICS.replace(",0,10,", ",9,19,"), data_root=folder / "k", labels=labels)


def test_rows_without_a_file_may_be_left_out_and_are_counted(folder, caplog):
    (folder / "k.csv").write_text("a.mp4,walk\nnone.mp4,run\nb c.mp4,run\nnot.mp4,run\n")
    with pytest.raises(ManifestError, match="line 2: there is no .*none.mp4.*data.missing=skip"):
        load_manifest(folder / "k.csv")
    found = load_manifest(folder / "k.csv", skip_missing=True)
    assert [Path(video).name for video in found["video"]] == ["a.mp4", "b c.mp4"] and found["label"][:] == [1, 0]
    assert f"k.csv: 2 of its videos have no file and are left out, the first {folder}/none.mp4." in caplog.text
    (folder / "k.csv").write_text("none.mp4,run\n")
    with pytest.raises(ManifestError, match="no row is left"):
        load_manifest(folder / "k.csv", skip_missing=True)


def test_internvid_files_named_by_their_start_are_cut_already(folder):
    found = rows(folder, "i.jsonl", json.dumps(INTERNVID), file_name="{YoutubeID}_{Start_timestamp}.mp4")
    assert found == [{"video": NAMES[5], "caption": "a cat"}]


def test_split_and_keep_choose_rows(folder):
    content = json.dumps(MSRVTT)
    assert len(rows(folder, "v.json", content, split="test")) == 2
    with pytest.raises(ManifestError, match="splits are test"):
        rows(folder, "v.json", content, split="train")
    with pytest.raises(ManifestError, match="no row is left"):
        rows(folder, "i.jsonl", json.dumps(INTERNVID), keep=lambda record: record["UMT_Score"] > 0.5)
    with pytest.raises(ManifestError, match="no split"):
        rows(folder, "k.csv", "a.mp4 0\n", split="train")


@pytest.mark.parametrize(
    ("name", "content", "options", "words"),
    [
        ("k.csv", "a.mp4 0\n\na.mp4 1\n", {}, "k.csv, line 2: it is empty"),
        ("k.csv", "a.mp4 0\nb c.mp4 1\na.mp4 0\n", {}, "line 3: it is the same as line 1"),
        ("k.csv", "a.mp4,0\na.mp4,1,2\n", {}, "line 2: it has 3 fields"),
        ("k.csv", "a.mp4,0\na.mp4\n", {}, "line 2: it has 1 fields"),
        ("k.csv", "a.mp4 0\nno.mp4 1\n", {}, "line 2: there is no .*no.mp4.*data_root"),
        ("k.csv", "a.mp4 -1\n", {}, "label is -1, expected at least 0"),
        ("k.csv", "a.mp4 2\n", {"labels": ["x", "y"]}, "label is 2, expected 0 to 1"),
        ("k.csv", "a.mp4,riding a bike\n", {}, "class names in order"),
        ("k.csv", "a.mp4,riding a byke\n", {"labels": ["riding a bike"]}, "nearest are 'riding a bike'"),
        ("k.csv", "a.mp4,0\n", {"data_root": "/nowhere"}, "/nowhere is not a folder"),
        ("n.csv", "video,label,weight\na.mp4,0,1\n", {}, "line 2: there is no column 'weight'.*ignore="),
        ("n.csv", "video,path\na.mp4,a.mp4\n", {}, "several columns mean 'video'"),
        ("n.csv", "video,label\na.mp4\n", {}, "line 2: it has 1 fields, the header 2"),
        ("n.csv", "video,label\n\na.mp4,0\n", {}, "line 2: it is empty"),
        ("n.csv", "video,start,end\na.mp4,3,2\n", {}, "from 3.0 to 2.0 seconds"),
        ("n.csv", "video,start\na.mp4,3\n", {}, "from 3.0 to None"),
        ("n.csv", "video,start,end\na.mp4,1:2:3:4,9\n", {}, "start is '1:2:3:4'"),
        ("n.csv", "video,label\n", {}, "no row is left"),
        ("n.json", '[{"video": "a.mp4", "label": true}]', {}, "record 1: the label is True"),
        ("n.json", '[{"video": "a.mp4", "label": 1.5}]', {}, "label is 1.5"),
        ("n.json", '[{"video": "a.mp4"}, {"label": 1}]', {}, "record 2: there is no video"),
        ("n.json", '[{"video": "a.mp4"}, 3]', {}, "record 2: it is an int"),
        ("n.json", '[{"video": null}]', {}, "the video is None"),
        ("n.json", '[{"label": 1}]', {}, "nothing says which video is meant: there are label"),
        ("n.json", '[{"video": "a.mp4"', {}, "not valid JSON"),
        ("n.json", '{"database": {}}', {}, "ends? in|one object with database|there are database"),
        ("n.jsonl", '{"video": "a.mp4"}\nnonsense\n', {}, "line 2: it is not valid JSON"),
        ("s.list", "frames 0 2\n", {}, "num_frames is '0'"),
        ("p.txt", "frames 12 37 2\n", {}, "begins at frame file 12"),
        ("i.jsonl", json.dumps(INTERNVID), {"file_name": "{Youtube}.mp4"}, "'{Youtube}.mp4'"),
        ("i.jsonl", json.dumps(INTERNVID | {"End_timestamp": "soon"}), {}, "end is 'soon'"),
        ("k.csv", "[1, 2]", {}, "the name says .csv, the content is json"),
        ("k.parquet", "a.mp4 0\n", {}, "the name says .parquet, the content is text"),
        ("k.csv", " \n", {}, "it is empty"),
        ("k.csv", "\ufeff\n", {}, "it is empty"),
        ("k.yaml", "a.mp4 0\n", {}, "ends in '.yaml'"),
        ("list", "a.mp4 0\n", {}, "the name has no ending. Give a folder of clips by class, or a list"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(folder, name, content, options, words):
    with pytest.raises(ManifestError, match=words):
        rows(folder, name, content, **options)


def test_a_list_that_is_not_there_or_no_text(folder):
    with pytest.raises(ManifestError, match="cannot be opened"):
        next(read_manifest(folder / "none.csv"))
    (folder / "latin.csv").write_bytes("a.mp4,caf\xe9\n".encode("latin-1"))
    with pytest.raises(ManifestError, match="UTF-8"):
        next(read_manifest(folder / "latin.csv", labels=["x"]))
    with pytest.raises(ValueError, match="layout: got 'kinetic'"):
        next(read_manifest(folder / "latin.csv", layout="kinetic"))
    assert "kinetics" in LAYOUTS


def test_the_error_survives_a_worker(folder):
    error = ManifestError("k.csv", "line 2", "it is empty", "Delete the line.")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.place) == ("k.csv, line 2: it is empty. Delete the line.", "line 2")
    assert str(ManifestError(str(error))) == str(error)


def test_load_manifest_has_fixed_columns_and_types(folder):
    (folder / "k.csv").write_text("a.mp4 0\nb c.mp4 1\n")
    table = load_manifest(folder / "k.csv")
    assert {name: value.dtype for name, value in table.features.items()} == COLUMNS
    assert table[1] == {**dict.fromkeys(COLUMNS), "video": str(folder / "b c.mp4"), "label": 1}
    (folder / "k.csv").write_text("a.mp4 4\n")
    assert load_manifest(folder / "k.csv")["label"] == [4], "no cache of an earlier state of the list"
    assert list(load_manifest(folder / "k.csv", streaming=True))[0]["label"] == 4


def test_parquet_is_read_as_it_was_written(folder):
    (folder / "n.jsonl").write_text('{"video": "a.mp4", "label": 3}\n{"video": "b c.mp4", "caption": "x"}\n')
    table = load_manifest(folder / "n.jsonl")
    table.to_parquet(folder / "n.parquet")
    assert list(read_manifest(folder / "n.parquet")) == list(table)
    broken = (folder / "n.parquet").read_bytes()
    (folder / "n.parquet").write_bytes(broken[: len(broken) // 2])
    with pytest.raises(ManifestError, match="not valid parquet"):
        list(read_manifest(folder / "n.parquet"))


MSVD = {"a_1_2": [["a", "man"], ["one", "walks"]], "b_3_4": [["a", "dog"]]}
ANET = {
    "v_b": {"duration": 9.5, "timestamps": [[0, 4], [4, 9]], "sentences": ["A man. ", " He runs."]},
    "v_c": {"duration": 3, "timestamps": [[0, 3]], "sentences": ["A dog."]},
}
DIDEMO = [
    {"video": "1@N0_a.mov", "description": "a cat", "times": [[0, 0]], "num_segments": 6},
    {"video": "2@N0_b.avi", "description": "a sea", "times": [[1, 1]], "num_segments": 6},
    {"video": "1@N0_a.mov", "description": " a dog", "times": [[2, 3]], "num_segments": 6},
]
VATEX = [{"videoID": "xyz_000001_000011", "enCap": ["a man", "one man"], "chCap": ["-"], "path": "s3://x/y.mp4"}]
LSMDC = (
    '0001_Film_00.00.51.926-00.00.54.129\t1\t2\t3\t4\tSOMEONE says "no.\n'
    "0002_Other_Film_00.01.00.000-00.01.02.000\t1\t2\t3\t4\tShe, too\n"
)


def retrieval_rows(folder: Path, list_name: str, content: str | bytes, videos: list[str], **options) -> list[tuple]:
    for video in videos:
        (folder / video).parent.mkdir(parents=True, exist_ok=True)
        (folder / video).write_bytes(b"x")
    file = folder / list_name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = list(read_manifest(file, folder, **options))
    assert all(list(row) == list(COLUMNS) for row in found)
    return [(row["video"].removeprefix(f"{folder}/"), row["caption"]) for row in found]


MSVD_ROWS = [("clips/a_1_2.avi", "a man"), ("clips/a_1_2.avi", "one walks"), ("b_3_4.mp4", "a dog")]


@pytest.mark.parametrize(
    ("name", "content", "videos", "expected"),
    [
        ("raw-captions.pkl", pickle.dumps(MSVD), ["clips/a_1_2.avi", "b_3_4.mp4"], MSVD_ROWS),
        ("raw-captions.pkl", pickle.dumps(MSVD, protocol=2), ["clips/a_1_2.avi", "b_3_4.mp4"], MSVD_ROWS),
        ("captions.json", json.dumps(MSVD), ["clips/a_1_2.avi", "b_3_4.mp4"], MSVD_ROWS),
        ("captions.json", '{"b_3_4": ["a dog"]}', ["b_3_4.mp4"], MSVD_ROWS[2:]),
        (
            "val_1.json",
            json.dumps(ANET),
            ["videos/v_b.mkv", "videos/c.mp4"],
            [("videos/v_b.mkv", "A man. He runs."), ("videos/c.mp4", "A dog.")],
        ),
        (
            "test_data.json",
            json.dumps(DIDEMO),
            ["1@N0_a.mp4", "small/2@N0_b.avi.mp4"],
            [("1@N0_a.mp4", "a cat a dog"), ("small/2@N0_b.avi.mp4", "a sea")],
        ),
        (
            "vatex_validation_v1.0_ceph.json",
            json.dumps(VATEX),
            ["v/xyz_000001_000011.webm"],
            [("v/xyz_000001_000011.webm", "a man"), ("v/xyz_000001_000011.webm", "one man")],
        ),
        (
            "LSMDC16_challenge_1000_publictect.csv",
            LSMDC,
            [
                "0001_Film/0001_Film_00.00.51.926-00.00.54.129.avi",
                "0002_Other_Film/0002_Other_Film_00.01.00.000-00.01.02.000.mp4",
            ],
            [
                ("0001_Film/0001_Film_00.00.51.926-00.00.54.129.avi", 'SOMEONE says "no.'),
                ("0002_Other_Film/0002_Other_Film_00.01.00.000-00.01.02.000.mp4", "She, too"),
            ],
        ),
        ("v.json", json.dumps(MSRVTT), ["all/videos/video7.mp4"], [("all/videos/video7.mp4", "a man")] * 2),
    ],
)  # fmt: skip
def test_published_captions_of_retrieval(tmp_path, name, content, videos, expected):
    assert retrieval_rows(tmp_path, name, content, videos) == expected


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("test_list.txt", "b_3_4\n"),
        ("test_ids.json", '["b_3_4", "b_3_4"]'),
        ("MSRVTT_train.9k.csv", "video_id\nb_3_4\n"),
        ("ids.csv", 'key,video_id,sentence\nret0,b_3_4,"a, b"\n'),
    ],
)
def test_only_keeps_the_videos_of_a_list(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    found = retrieval_rows(tmp_path, "captions.json", json.dumps(MSVD), ["b_3_4.mp4"], only=tmp_path / name)
    assert found == MSVD_ROWS[2:]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a_1_2\nno\nneither\n", "2 of the 3 videos of .*ids.txt have no row, the first is no"),
        ("", "not a list of video ids"),
    ],
)
def test_only_wants_every_video_of_its_list(tmp_path, content, words):
    (tmp_path / "ids.txt").write_text(content)
    with pytest.raises(ManifestError, match=words):
        retrieval_rows(tmp_path, "captions.json", json.dumps(MSVD), ["a_1_2.avi"], only=tmp_path / "ids.txt")
    (tmp_path / "k.csv").write_text("a_1_2.avi 0\n")
    (tmp_path / "ids.txt").write_text("a_1_2\n")
    with pytest.raises(ManifestError, match="no ids in this layout"):
        next(read_manifest(tmp_path / "k.csv", tmp_path, only=tmp_path / "ids.txt"))
    with pytest.raises(ValueError, match=r"^\S+nowhere\.txt cannot be read") as caught:
        next(read_manifest(tmp_path / "k.csv", tmp_path, only=tmp_path / "nowhere.txt"))
    assert "k.csv" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("c.json", '{"a": [3]}', "record 1: the caption is 3"),
        ("c.json", '{"a": []}', r"the captions are \[\]"),
        ("c.json", '{"a": ["x"],\n "b": "y"}', "one object with a, b"),
        ("v.json", '{"v_b": {"timestamps": [], "sentences": "A man."}}', "sentences are 'A man.'"),
        ("d.json", '[{"video": "a.mp4", "description": 3}]', "caption is 3"),
        ("l.csv", LSMDC + "0003\t1\t2\t3\n", "line 3: it has 4 fields between tabs, expected 6"),
        ("p.pkl", pickle.dumps(["a"]), "holds a list"),
        ("p.pkl", pickle.dumps(MSVD)[:-20], "cannot be unpickled safely"),
        ("p.pkl", pickle.dumps({"a": Path("x")}), "it wants pathlib"),
        ("p.csv", pickle.dumps(MSVD), "the name says .csv, the content is pickle"),
    ],
)
def test_mistakes_of_published_captions(tmp_path, name, content, words):
    films = [f"{line.split(chr(9))[0]}.avi" for line in LSMDC.splitlines()]
    with pytest.raises(ManifestError, match=words):
        retrieval_rows(tmp_path, name, content, ["a.mp4", "v_b.mp4", *films])


def test_two_files_of_one_name_are_told(tmp_path):
    with pytest.raises(ManifestError, match="2 files have the name of b_3_4: .*Give a data_root"):
        retrieval_rows(tmp_path, "captions.json", '{"b_3_4": ["x"]}', ["raw/b_3_4.avi", "small/b_3_4.mp4"])
    with pytest.raises(ManifestError, match="there is no .*none.avi"):
        retrieval_rows(tmp_path, "captions.json", '{"none": ["x"]}', [])


def test_no_code_of_a_pickle_runs(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    with pytest.raises(ManifestError, match="nothing but lists, dicts and texts"):
        retrieval_rows(tmp_path, "raw-captions.pkl", pickle.dumps({"a": Evil()}), [])
    assert not (tmp_path / "ran").exists()
