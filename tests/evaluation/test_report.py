"""Results as text."""

from internvideo_hf.evaluation.report import ensemble_table, table

SETTINGS = {
    "title": "A title",
    "task": "retrieval",
    "data": {"list": "test.csv", "num_videos": 3},
    "processor": {
        "num_frames": 8,
        "sampler": "retrieval_fps",
        "sampler_kwargs": {"start": 0},
        "size": {"shortest_edge": 224},
        "crop_size": {"height": 224, "width": 200},
        "do_center_crop": True,
        "resize_method": "pil_bicubic",
    },
    "merge": None,
    "text_length": 77,
    "several": "video",
    "factor": "model",
}
SCORES = {"R@1": 40.0, "R@5": 65.25, "R@10": 100.0, "MedR": 2.0, "MeanR": 23.456}
RESULT = {
    "protocol": "retrieval/mine",
    "settings": SETTINGS,
    "model": {"name": "folder", "family": "viclip", "parameters": 1234567},
    "data": {"files": {"test.csv": "hash"}, "videos": 4, "texts": 9},
    "damaged": [{"video": "a.mp4", "cause": "noise"}],
    "scores": {"text_to_video": {"plain": SCORES, "dual_softmax": SCORES | {"R@1": 41.0}}},
    "published": [
        {
            "where": "paper",
            "direction": "text_to_video",
            "dual_softmax": True,
            "model": "ViCLIP-L",
            "scores": {"R@1": 42.1},
        },
        {
            "where": "read-me",
            "direction": "video_to_text",
            "dual_softmax": True,
            "model": None,
            "scores": {"R@1": 1.0},
        },
    ],
}


def test_a_table_says_which_numbers_were_used():
    def numbers(**settings: str) -> str:
        result = RESULT | {"model": RESULT["model"] | {"dtype": "bfloat16"}, "settings": SETTINGS | settings}
        (line,) = [line for line in table(result).splitlines() if line.startswith("  numbers")]
        return line.split(maxsplit=1)[1]

    assert numbers(published_dtype="float16") == "bfloat16; the published scores were computed in float16"
    assert numbers() == "bfloat16; the published scores were computed in an unstated type"
    assert "numbers" not in table(RESULT)  # a result of an earlier version


def test_a_table_has_the_protocol_and_published_scores_below_ours():
    lines = table(RESULT).splitlines()
    assert lines[0] == "retrieval/mine: A title"
    described = {line[:10].strip(): line[10:] for line in lines[1:7]}
    assert described["model"] == "folder (viclip, 1,234,567 parameters)"
    assert described["videos"] == "4 of test.csv, 1 of them damaged; the published split has 3"
    assert described["frames"] == "8 by retrieval_fps {'start': 0}"
    assert described["pixels"] == "short side 224 by pil_bicubic, center 224 x 200"
    assert described["texts"] == "9, of at most 77 tokens"
    rows = [line for line in lines if "%" not in line][-4:]
    assert rows[0].split() == ["R@1", "R@5", "R@10", "MedR", "MeanR"]
    assert rows[1].split() == ["text", "to", "video", "40.00", "65.25", "100.00", "2.00", "23.46"]
    assert rows[2].split()[-5:] == ["41.00", "65.25", "100.00", "2.00", "23.46"]
    assert rows[3].startswith("  paper, dual softmax, ViCLIP-L") and rows[3].split()[-5:] == ["42.10", *"----"]
    assert len({len(row) for row in rows}) == 1


def test_long_names_shift_no_scores():
    entry = RESULT["published"][0] | {"model": "UniFormerV2-L K400 from K710 32x336 frozen, of a long name"}
    lines = table(RESULT | {"published": [entry]}).splitlines()[-4:]
    assert lines[-1].startswith("  paper, dual softmax, UniFormerV2-L K400 from K710 32x336 frozen, of a long name  ")
    assert len({len(line) for line in lines}) == 1


def test_another_number_of_videos_and_a_merge_are_said():
    settings = SETTINGS | {
        "merge": {"weight": 0.5, "variant": "retrieval"},
        "processor": {"size": {"height": 8, "width": 9}},
    }
    text = table(RESULT | {"settings": settings, "data": RESULT["data"] | {"videos": 3}})
    assert "published split" not in text
    assert "8 x 9 by None, no crop" in text
    assert "0.5 CLIP, by internvideo merge --variant retrieval" in text


def test_members_of_an_ensemble_stand_above_their_sum():
    member = {"family": "uniformerv2", "parameters": 1000, "views": [4, 3]}
    result = {
        "protocol": "ensemble/mine",
        "settings": {"title": "A title", "weights": [3, 1], "data": {"list": "val.csv"}},
        "data": {"videos": 5},
        "damaged": [],
        "members": [
            {**member, "model": "a", "weight": 0.75, "scores": {"top-1": 80.0, "top-5": 90.0}},
            {**member, "model": f"/{'deep/' * 9}b", "weight": 0.25, "scores": {"top-1": 70.0, "top-5": 85.0}},
        ],
        "scores": {"top-1": 82.5, "top-5": 91.0},
        "published": [{"where": "paper", "labels": "k400", "scores": {"top-1": 91.1}}],
    }
    lines = ensemble_table(result).splitlines()
    assert "5 of val.csv, 0 of them damaged" in lines[1] and lines[2].split() == ["weights", "given"]
    assert lines[3] == "  member  a (uniformerv2, 1,000 parameters), 4 clips x 3 crops, weight 0.750"
    assert [line.split()[-2:] for line in lines[-4:]] == [
        ["80.00", "90.00"],
        ["70.00", "85.00"],
        ["82.50", "91.00"],
        ["91.10", "-"],
    ]
    assert lines[-3].startswith(".../deep/") and "eep" not in lines[-3].replace("deep", "")
    assert lines[-2].startswith("the ensemble") and lines[-1].startswith("  paper, k400")
    equal = result | {"settings": result["settings"] | {"weights": "equal"}}
    assert "weights equal" in ensemble_table(equal)
