"""Tables of InternVid: made-up ones of the public layout, as rows, as `datasets.Dataset` and as training lists."""

import json

import pyarrow
import pytest
from pyarrow import parquet

from internvideo_hf.data.internvid import (
    duration_of,
    load_internvid,
    names_its_source,
    read_internvid,
    score_column,
    source_of,
    training_rows,
    value_of,
)
from internvideo_hf.data.layouts import BadRow
from internvideo_hf.data.manifests import load_manifest
from internvideo_hf.data.records import ManifestError

ROWS = [
    {
        "YoutubeID": "7q_1Lg3YqEE",
        "Start_timestamp": "00:02:50.100",
        "End_timestamp": "00:02:55.600",
        "Caption": "a man cuts an onion",
        "Aesthetic_Score": 4.29,
        "UMT_Score": 0.416,
        "Language": "en",
        "Type": "cooking",
    },
    {
        "YoutubeID": "-Xa9bc_dEfG",
        "Start_timestamp": "01:00:00.000",
        "End_timestamp": "01:00:00.500",
        "Caption": "deux chiens courent",
        "Aesthetic_Score": None,
        "UMT_Score": 0.1,
        "Language": "fr",
        "Type": None,
    },
]
READ = {
    "youtube_id": "7q_1Lg3YqEE",
    "start": 170.1,
    "end": 175.6,
    "caption": "a man cuts an onion",
    "aesthetic_score": 4.29,
    "umt_score": 0.416,
    "language": "en",
    "Type": "cooking",
}


def write(path, rows=ROWS):
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        lines = [",".join(rows[0]), *(",".join("" if v is None else str(v) for v in row.values()) for row in rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        text = "\n".join(map(json.dumps, rows)) if path.suffix == ".jsonl" else json.dumps(rows)
        path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["t.jsonl", "t.json", "t.parquet", "t.csv"])
def test_all_formats_give_the_same_rows(name, tmp_path):
    first, second = read_internvid(write(tmp_path / name))
    assert first == pytest.approx(READ)
    assert second["start"] == 3600 and second["aesthetic_score"] is None and second["Type"] is None
    assert [row["caption"] for row in read_internvid([tmp_path / name] * 2, languages=["FR"])] == [
        "deux chiens courent"
    ] * 2


def test_other_spellings_and_missing_columns_are_taken(tmp_path):
    rows = [{"YoutubeID": "a" * 11, "UMT_Sim": "0.5", "Caption": "a dog"}]
    assert list(read_internvid(write(tmp_path / "t.jsonl", rows))) == [
        {"youtube_id": "a" * 11, "umt_score": 0.5, "caption": "a dog"}
    ]
    lists = [{"video": "s3://b/abcdefghijk_0.0_1.0.mp4", "caption": "a cat"}]
    assert list(read_internvid(write(tmp_path / "l.json", lists))) == lists


def test_a_dataset_has_types_and_all_columns(tmp_path):
    later = {"YoutubeID": "b" * 11, "Caption": "a cat", "Views": 7}
    data = load_internvid([write(tmp_path / "a.jsonl"), write(tmp_path / "b.jsonl", [later])])
    assert data.num_rows == 3 and data.features["start"].dtype == "float64" and data[0]["Type"] == "cooking"
    assert data[2]["Views"] == 7 and data[0]["Views"] is None and data[2]["language"] is None
    assert next(iter(load_internvid(tmp_path / "a.jsonl", streaming=True))) == pytest.approx(READ)
    with pytest.raises(ManifestError, match="no row is left"):
        load_internvid(tmp_path / "a.jsonl", languages=["de"])


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"End_timestamp": "00:00:01"}, "the clip goes from 170.1 to 1.0 seconds"),
        ({"UMT_Score": "high"}, "umt_score is 'high', expected a number"),
        ({"Start_timestamp": "soon"}, "start is 'soon'"),
    ],
)
def test_invalid_values_are_named_with_their_line(change, cause, tmp_path):
    path = write(tmp_path / "t.jsonl", [ROWS[0], ROWS[0] | change])
    with pytest.raises(ManifestError, match=f"line 2: .*{cause}"):
        list(read_internvid(path))
    path.with_suffix(".txt").write_text("a.mp4 1\n")
    with pytest.raises(ManifestError, match="no header"):
        list(read_internvid(path.with_suffix(".txt")))


def test_the_source_is_the_id_or_the_begin_of_the_file_name():
    assert source_of(ROWS[0]) == "7q_1Lg3YqEE" and names_its_source(ROWS[0])
    clip = {"video": "s3://bucket/v/7q_1Lg3YqEE_170.1_175.6.mp4"}
    assert source_of(clip) == "7q_1Lg3YqEE" and names_its_source(clip)
    # The first 11 characters, right or wrong: so does the released script.
    assert source_of({"video": "v_7q_1Lg3YqEE_170.mp4"}) == "v_7q_1Lg3Yq"
    assert not names_its_source({"video": "v_7q_1Lg3YqEE_170.mp4"}) and not names_its_source({"video": "short.mp4"})
    with pytest.raises(BadRow, match="which video"):
        source_of({"caption": "a dog"})


def test_values_durations_and_scores_are_found():
    assert value_of({"umt_sim": 3}, "umt_score") == 3 and value_of({"Own": 1}, "Own") == 1
    assert duration_of(ROWS[0]) == pytest.approx(5.5) and duration_of({"video": "a"}) is None
    assert score_column(ROWS[0], None, ("similarity", "umt_score")) == "umt_score"
    assert score_column({"CLIP": 1}, "clip", ()) == "clip"
    with pytest.raises(BadRow, match="there is no UMT_Score; columns are UMT_Scor"):
        score_column({"UMT_Scor": 1}, None, ("umt_score",))


def test_training_lists_are_those_that_the_recipes_take(tmp_path):
    table = write(tmp_path / "t.jsonl", [*ROWS, {**ROWS[0], "YoutubeID": "gone_gone_g"}])
    for row in ROWS:
        (tmp_path / f"{row['YoutubeID']}.mp4").touch()
    whole = list(training_rows(table, tmp_path, skip_missing=True))
    assert [row["video"] for row in whole] == ["7q_1Lg3YqEE.mp4", "-Xa9bc_dEfG.mp4"]
    assert (whole[0]["start"], whole[0]["end"]) == pytest.approx((170.1, 175.6))
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, whole)))
    read, expected = (load_manifest(path, skip_missing=True) for path in (tmp_path / "train.jsonl", table))
    assert read.to_list() == expected.to_list()
    with pytest.raises(ManifestError, match="gone_gone_g"):
        list(training_rows(table, tmp_path))
    (tmp_path / "-Xa9bc_dEfG_01.mp4").touch()
    cut = write(tmp_path / "cut.jsonl", [ROWS[1] | {"Start_timestamp": "01"}])
    assert list(training_rows(cut, tmp_path, file_name="{YoutubeID}_{Start_timestamp}.mp4", languages=["fr"])) == [
        {"video": "-Xa9bc_dEfG_01.mp4", "caption": "deux chiens courent"}
    ]


def test_a_record_with_a_file_is_that_file(tmp_path):
    (tmp_path / "clip.mp4").touch()
    table = write(tmp_path / "t.jsonl", [ROWS[0] | {"video": "clip.mp4"}])
    assert list(training_rows(table, tmp_path)) == [{"video": "clip.mp4", "caption": "a man cuts an onion"}]
