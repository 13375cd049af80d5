"""Lists of sentences: one's own, and Ego4D's files in their documented layout."""

import json

import pytest

from internvideo_hf.data.records import ManifestError
from internvideo_hf.tasks.temporal_grounding.queries import Query, read_queries


def query(text: str | None, start: float | None = 1.0, end: float | None = 2.5, **more) -> dict:
    """Return a language query as Ego4D has it, with what no reader needs."""
    entry = {"query": text, "template": "Objects: Where is object X?", "slot_x": "x", "raw_tags": [], **more}
    if start is not None:
        entry |= {"clip_start_sec": start, "clip_end_sec": end, "video_start_sec": start + 30, "clip_start_frame": 30}
    return entry


def ego4d(*queries: dict, **clip) -> dict:
    """Return nlq_val.json with one clip of 480 seconds, of two annotators; the first has the queries."""
    annotations = [
        {"annotation_uid": "a1", "language_queries": list(queries)},
        {"annotation_uid": "a2", "language_queries": [query("what did I cut?", 470.0, 480.0)]},
    ]
    clips = [
        {
            "clip_uid": "c1", "video_start_sec": 30.0, "video_end_sec": 510.0, "video_start_frame": 900,
            "clip_start_sec": 0, "clip_end_sec": 480.0, "source_clip_uid": "c1", "annotations": annotations, **clip,
        }
    ]  # fmt: skip
    return {
        "version": "1", "date": "220216", "description": "NLQ Annotations (val)",
        "videos": [{"video_uid": "v1", "split": "val", "clips": clips}],
    }  # fmt: skip


def write(folder, content) -> str:
    (folder / "nlq_val.json").write_text(json.dumps(content))
    return str(folder / "nlq_val.json")


def test_queries_of_ego4d_are_of_clips_and_keep_their_places(tmp_path, caplog):
    own = [query(" where is the knife? "), query(None), query(""), query("when?", 7.0, 7.0), {"template": None}]
    found = read_queries(write(tmp_path, ego4d(*own)))
    of_clip = {"source": "v1", "source_start": 30.0, "source_end": 510.0}
    assert found == [
        Query("c1", "where is the knife?", 1.0, 2.5, "a1", 0, **of_clip),
        Query("c1", "when?", 7.0, 7.0, "a1", 3, **of_clip),
        Query("c1", "what did I cut?", 470.0, 480.0, "a2", 0, **of_clip),
    ]
    assert [one.has_stretch for one in found] == [True, False, True]
    assert "3 queries have no text and are left out" in caplog.text
    assert "c1, annotation a1, query 1; c1, annotation a1, query 2; c1, annotation a1, query 4." in caplog.text
    assert "1 queries have a stretch of no length" in caplog.text and "query 3" in caplog.text


def test_the_test_set_has_no_stretches(tmp_path):
    found = read_queries(write(tmp_path, ego4d(query("where?", None))))
    assert (found[0].start, found[0].end, found[0].has_stretch) == (None, None, False)


BAD = {
    "moments": ({"videos": [{"video_uid": "v", "clips": []}]}, "no clip has a query with text"),
    "clip": (ego4d(query("a"), clip_uid=None), "video v1: it has no 'clip_uid'"),
    "order": (ego4d(query("a"), video_end_sec=30.0), "clip c1: it goes from 30 to 30 s"),
    "half": (ego4d(query("a", clip_start_sec=1.0, start=None)), "annotation a1, query 0: .*clip_end_sec"),
    "list": ({"videos": {}}, "it has no list 'videos'"),
    "other": ({"version": "1", "clips": []}, "it has no list 'videos', but 'version', 'clips'.*nlq_train.json"),
}


@pytest.mark.parametrize("name", BAD)
def test_files_that_lack_something_are_refused_with_the_place(name, tmp_path):
    content, message = BAD[name]
    with pytest.raises(ManifestError, match=message):
        read_queries(write(tmp_path, content))


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.jsonl"])
def test_lists_of_ones_own_name_videos_queries_and_times(name, tmp_path):
    rows = [("videos/one.mp4", "a, b", 0.5, 3), ("videos/one.mp4", "c", 4, 5.0), ("two", "a", None, None)]
    columns = ("video", "query", "start", "end")
    if name == "a.csv":
        text = "video,query,start,end\n" + "".join(f'{v},"{q}",{s or ""},{e or ""}\n' for v, q, s, e in rows)
    else:
        records = [json.dumps(dict(zip(columns, row, strict=True))) for row in rows]
        text = f"[{','.join(records)}]" if name == "a.json" else "\n".join(records)
    (tmp_path / name).write_text(text)
    expected = [Query("one", "a, b", 0.5, 3.0), Query("one", "c", 4.0, 5.0), Query("two", "a")]
    assert read_queries(tmp_path / name) == expected


def test_rows_without_a_sentence_or_time_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("video,query,start,end\none.mp4,,1,2\n")
    with pytest.raises(ManifestError, match="row 1: it has no sentence"):
        read_queries(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("video,query,start,end\none.mp4,a,2,2\n")
    with pytest.raises(ManifestError, match="line 2: the clip goes from 2.0 to 2.0 seconds"):
        read_queries(tmp_path / "a.csv")
