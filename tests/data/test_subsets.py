"""Subsets: draws by their definition, cuts by hand, files in the order of the choice."""

import json
from collections import Counter

import numpy as np
import pytest

from internvideo_hf.data.records import ManifestError, read_records
from internvideo_hf.data.subsets import ScoreCut, best, div_sample, div_subset, score_subset

UMT = ("umt_score", "similarity")


def by_definition(weights: np.ndarray, count: int, seed: int) -> list[int]:
    """NumPy's legacy draw without replacement: batches of uniform numbers in the sums of the weights that are left."""
    generator, left, drawn = np.random.RandomState(seed), weights / weights.sum(), []
    while len(drawn) < count:
        sums = np.cumsum(left)
        new = np.searchsorted(sums / sums[-1], generator.random_sample(count - len(drawn)), side="right")
        drawn += [number for place, number in enumerate(new) if number not in new[:place]]
        left[drawn] = 0
    return drawn


def test_draws_are_those_of_the_definition():
    sources = [f"{source:011d}" for source in (0, 0, 0, 0, 1, 2, 2, 3, 4, 4, 4)]
    clips = Counter(sources)
    weights = np.array([1 / clips[source] for source in sources])
    for count, seed in ((1, 42), (5, 42), (11, 7)):
        assert div_sample(sources, count, seed).tolist() == by_definition(weights, count, seed)
    for count in (0, 12):
        with pytest.raises(ValueError, match="expected 1 to 11"):
            div_sample(sources, count)


def test_sources_have_the_same_weight_in_the_first_draw():
    sources = ["long"] * 98 + ["short", "other"]
    first = Counter(sources[int(div_sample(sources, 1, seed)[0])] for seed in range(600))
    assert all(150 < first[source] < 250 for source in ("long", "short", "other"))


def test_best_takes_the_first_of_equals_and_no_nan():
    scores = np.array([0.5, np.nan, 0.9, 0.5, 0.1])
    assert best(scores, 2).tolist() == [0, 2]
    assert best(scores, 9).tolist() == [0, 2, 3, 4]


def table(folder, rows, name="t.jsonl"):
    (folder / name).write_text("\n".join(map(json.dumps, rows)))
    return folder / name


def clip(number, source="a", seconds=5.0, score=0.5, **more):
    times = {
        "Start_timestamp": "00:00:10.0",
        "End_timestamp": f"00:{int(10 + seconds) // 60:02d}:{(10 + seconds) % 60}",
    }
    return {"YoutubeID": source * 11, **times, "UMT_Score": score, "n": number, **more}


def numbers(path):
    return [record["n"] for _, record in read_records(path)]


def test_div_reads_several_tables_and_groups_by_a_column(tmp_path):
    rows = [clip(number, source, channel=source in "ab") for number, source in enumerate("aaabbcdd")]
    paths = [table(tmp_path, rows[:5]), table(tmp_path, rows[5:], "u.jsonl")]
    report = div_subset(paths, tmp_path / "out.json", 4)
    assert numbers(tmp_path / "out.json") == div_sample(list("aaabbcdd"), 4).tolist()
    assert (report.read, report.kept, report.dropped, report.unsure) == (8, 4, {"not drawn": 4}, 0)
    assert report.sources == len({"aaabbcdd"[number] for number in numbers(tmp_path / "out.json")})
    div_subset(paths, tmp_path / "out.parquet", 4, by="channel")
    assert numbers(tmp_path / "out.parquet") == div_sample([*"TTTTTFFF"], 4).tolist()
    with pytest.raises(ManifestError, match="line 1: there is no owner"):
        div_subset(paths, tmp_path / "x.jsonl", 4, by="owner")
    assert not (tmp_path / "x.jsonl").exists()
    seen = []
    div_subset(paths, tmp_path / "out.jsonl", 2, on_record=lambda: seen.append(1))
    assert len(seen) == 16
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "out.json",
        "out.jsonl",
        "out.parquet",
        "t.jsonl",
        "u.jsonl",
    ]


def test_div_counts_file_names_without_an_id(tmp_path):
    rows = [{"video": "v_7q_1Lg3YqEE_1.mp4", "n": 0}, {"video": "7q_1Lg3YqEE_1.mp4", "n": 1}]
    assert div_subset([table(tmp_path, rows)], tmp_path / "o.jsonl", 2).unsure == 1
    (tmp_path / "lines.txt").write_text("a.mp4 1\n")
    with pytest.raises(ManifestError, match="no header"):
        div_subset([tmp_path / "lines.txt"], tmp_path / "o.jsonl", 1)


def test_flt_drops_by_length_and_keeps_the_best(tmp_path):
    scores = [0.9, 0.8, 0.3, None, 0.7, 0.1, 0.2, 0.4]
    seconds = [0.5, 121, 5, 5, 120, 1, 5, 5]
    rows = [
        clip(n, s, length, score) for n, s, length, score in zip(range(8), "aabbccdd", seconds, scores, strict=True)
    ]
    cut = ScoreCut(None, UMT, fraction=0.4, min_seconds=1, max_seconds=120)
    report = score_subset([table(tmp_path, rows)], tmp_path / "o.jsonl", cut)
    assert numbers(tmp_path / "o.jsonl") == [4, 7]  # of 5 that are left, the best 2
    assert report.dropped == {"no score": 1, "too short": 1, "too long": 1, "other language": 0, "low score": 3}
    assert (report.threshold, report.score, report.kept) == (0.4, "umt_score", 2)
    above = ScoreCut("UMT_Score", UMT, min_score=0.3)
    assert score_subset([tmp_path / "t.jsonl"], tmp_path / "o.jsonl", above).kept == 5
    report = score_subset([tmp_path / "t.jsonl"], tmp_path / "o.jsonl", above, count=3)
    left = [0, 1, 2, 4, 7]
    assert numbers(tmp_path / "o.jsonl") == [left[n] for n in div_sample(list("aabcd"), 3)]
    assert report.dropped["not drawn"] == 2
    english = [row | {"Language": "en" if row["n"] % 2 else "de"} for row in rows]
    in_english = ScoreCut(None, UMT, fraction=1, languages=("EN",))
    report = score_subset([table(tmp_path, english, "l.jsonl")], tmp_path / "o.jsonl", in_english)
    assert numbers(tmp_path / "o.jsonl") == [1, 5, 7] and report.dropped["other language"] == 4
    with pytest.raises(ValueError, match="none of 8 records is left; 1 no score, 7 low score"):
        score_subset([tmp_path / "t.jsonl"], tmp_path / "o.jsonl", ScoreCut(None, UMT, min_score=2))
    with pytest.raises(ManifestError, match="line 1: there is no Aesthetic_Score"):
        score_subset([tmp_path / "t.jsonl"], tmp_path / "o.jsonl", ScoreCut(None, ("aesthetic_score",), fraction=0.5))


@pytest.mark.parametrize(
    "options",
    [{}, {"fraction": 0.3, "min_score": 1}, {"fraction": 1.1}, {"fraction": 1, "min_seconds": 2, "max_seconds": 1}],
)
def test_cuts_that_mean_nothing_are_refused(options):
    with pytest.raises(ValueError, match="fraction|min_seconds"):
        ScoreCut(None, UMT, **options)
