"""Boxes of people: of any detector of transformers, and given ones; what is refused, and what is left out."""

import json

import numpy as np
import pytest
import torch
from tasks.action_detection.small import write_detector, write_rt_detr
from tasks.temporal_localization.heads import write_encoder
from transformers import AutoImageProcessor, AutoModelForObjectDetection
from video.clips import moving_picture

from internvideo_hf.data.records import ManifestError
from internvideo_hf.tasks.action_detection.detectors import GivenBoxes, People, PersonDetector, parse_boxes

BOX = [0.1, 0.2, 0.4, 0.9]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detectors")
    write_detector(folder / "yolos")
    write_rt_detr(folder / "rt_detr")
    return folder


@pytest.mark.parametrize(("name", "person"), [("yolos", 1), ("rt_detr", 0)])
def test_people_are_those_of_transformers_own_answers(folder, name, person):
    frames = list(moving_picture(3, 90, 160))
    found = PersonDetector(folder / name, threshold=0.3, device="cpu").detect(frames)
    model = AutoModelForObjectDetection.from_pretrained(folder / name).eval()
    processor = AutoImageProcessor.from_pretrained(folder / name)
    with torch.no_grad():
        outputs = model(**processor(images=frames, return_tensors="pt"))
    for own, answer in zip(found, processor.post_process_object_detection(outputs, 0.3, [(90, 160)] * 3), strict=True):
        is_person = answer["labels"] == person
        people = [(float(score), box.tolist()) for score, box in zip(answer["scores"], answer["boxes"], strict=True)]
        people = [one for one, wanted in zip(people, is_person, strict=True) if wanted]
        people.sort(key=lambda one: -one[0])
        assert len(people) > 1 and own.indices.tolist() == list(range(len(people)))
        assert own.scores.tolist() == pytest.approx([score for score, _ in people], abs=1e-5)
        clipped = np.clip([box for _, box in people], 0, [160, 90, 160, 90])
        np.testing.assert_allclose(own.boxes * torch.tensor([160, 90, 160, 90]), clipped, atol=1e-3)
    few = PersonDetector(folder / name, threshold=float(found[0].scores[1]), device="cpu").detect(frames[:1])[0]
    assert few.scores.tolist() == found[0].scores[:1].tolist()


def test_a_thousand_boxes_are_the_most(folder, monkeypatch):
    detector = PersonDetector(folder / "rt_detr", threshold=0.0, device="cpu")
    monkeypatch.setattr("internvideo_hf.tasks.action_detection.detectors.MOST_BOXES", 3)
    frame = moving_picture(1, 90, 160)[0]
    (few,) = detector.detect([frame])
    monkeypatch.undo()
    (all_of_them,) = detector.detect([frame])
    assert len(all_of_them.boxes) == 8 and torch.equal(few.boxes, all_of_them.boxes[:3])


def test_what_is_no_number_is_no_person(folder, monkeypatch):
    detector = PersonDetector(folder / "rt_detr", threshold=0.0, device="cpu")
    found = {
        "boxes": torch.tensor(
            [[0.1, 0.1, torch.nan, 0.5], [0.1, 0.1, 0.5, 0.5], [0.2, 0.2, 0.2, 0.9], [-0.3, 0.4, 0.5, 2]]
        ),
        "scores": torch.tensor([0.9, 0.8, 0.9, 0.95]),
        "labels": torch.zeros(4, dtype=torch.int64),
    }
    monkeypatch.setattr(detector.processor, "post_process_object_detection", lambda *_, **__: [found])
    (people,) = detector.detect([np.zeros((40, 40, 3), np.uint8)])
    np.testing.assert_allclose(people.boxes, [[0, 0.4, 0.5, 1], [0.1, 0.1, 0.5, 0.5]])


def test_what_cannot_find_people_is_refused_before_its_weights_load(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("internvideo_hf.inference.objects.load_model", None)
    dogs = write_detector(tmp_path / "dogs", {0: "dog", 1: "cat", 2: "Persons"})
    with pytest.raises(
        ValueError, match=r"no class 'person'; it detects dog, cat, Persons\. Did you mean Persons\?"
    ) as error:
        PersonDetector(dogs)
    assert "(--person-class NAME)" in str(error.value)
    with pytest.raises(ValueError, match=r"is not a detector of objects: its model_type is internvideo_mae"):
        PersonDetector(write_encoder(tmp_path / "encoder"))
    with pytest.raises(ValueError, match="threshold=2"):
        PersonDetector(dogs, threshold=2)
    monkeypatch.undo()
    assert PersonDetector(dogs, person_class=" CAT", device="cpu").facts()["person"] == 1


def test_boxes_in_a_frame_keep_their_places():
    boxes = torch.tensor(
        [[-0.2, 0.1, 0.3, 0.5], [1.1, 0, 1.2, 1], [0.5, 0.5, 0.5, 0.9], [0.5, 0.5, 0.505, 0.9], [0.5, 0.4, 0.9, 1.4]]
    )
    inside = People(boxes, torch.ones(5), torch.arange(5)).inside((100, 100))
    assert inside.indices.tolist() == [0, 4]
    np.testing.assert_allclose(inside.boxes, [[0, 0.1, 0.3, 0.5], [0.5, 0.4, 0.9, 1]])
    np.testing.assert_allclose(inside.in_pixels((100, 200)), [[0, 10, 59, 49], [100, 40, 179, 99]], rtol=1e-6)


def test_lists_are_in_the_order_of_time():
    rows = [
        {"time": 2, "boxes": [BOX], "scores": [0.5]},
        {"time": "1.5", "boxes": np.array([BOX, BOX])},
        {"time": 3, "boxes": []},
    ]
    first, second, third = parse_boxes(rows)
    assert (first.time, second.time, third.time) == (1.5, 2.0, 3.0)
    assert first.people.scores.tolist() == [1, 1] and second.people.scores.tolist() == [0.5]
    np.testing.assert_allclose(second.people.boxes, [BOX])
    assert third.people.boxes.shape == (0, 4) and first.people.indices.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"boxes": [[0.1, 0.2, float("nan"), 0.9]]}, "at 1 s: box 0 .*nan.*expected numbers"),
        ({"boxes": [BOX, [10, 20, 400, 90]]}, "box 1 .*divide pixels by its width and height"),
        ({"boxes": [[0.4, 0.2, 0.1, 0.9]]}, "expected left, top, right, bottom"),
        ({"boxes": [BOX], "scores": [2]}, "its score is 2.0"),
        ({"boxes": [BOX], "scores": [float("nan")]}, "its score is nan"),
        ({"boxes": [BOX], "scores": [1, 1]}, "a score for each"),
        ({"boxes": [BOX[:3]]}, "4 numbers"),
        ({"boxes": [BOX, BOX[:3]]}, "4 numbers"),
        ({"boxes": "here"}, "4 numbers"),
        ({"boxes": 3}, "expected lists"),
        ({"boxes": [BOX] * 1001}, "1001 boxes, expected at most 1000"),
        ({"boxes": [BOX], "time": -1}, "time -1, expected seconds"),
        ({"boxes": [BOX], "time": None}, "time None, expected seconds"),
        ({"boxes": [BOX], "person": 3}, "person, which is unknown"),
        ({"box": [BOX]}, "expected {\"time\": ..., \"boxes\": "),
    ],
)  # fmt: skip
def test_a_wrong_list_is_refused(row, words):
    with pytest.raises(ValueError, match=words):
        parse_boxes([{"time": 1, **row}])


def test_a_key_frame_stands_once_and_a_list_is_a_list():
    with pytest.raises(ValueError, match="1 s is there twice"):
        parse_boxes([{"time": 1, "boxes": []}, {"time": 1.0, "boxes": []}])
    for wrong in ("boxes.csv", {"time": 1, "boxes": []}, 3):
        with pytest.raises(ValueError, match="expected a list of"):
            parse_boxes(wrong)


def test_files_of_every_kind_hold_the_same_boxes(tmp_path):
    rows = {"a": [{"time": 1.0, "boxes": [BOX, [0, 0, 0.5, 0.5]]}], "b": [{"time": 2.5, "boxes": [BOX]}]}
    (tmp_path / "own.json").write_text(json.dumps(rows))
    (tmp_path / "people.csv").write_text(
        "a,0001,0.1,0.2,0.4,0.9,3,11\na,1.0,0,0,0.5,0.5,5,12\na,0001,0.1,0.2,0.4,0.9,7,11\nb,2.5,0.1,0.2,0.4,0.9,,4\n"
    )
    coco = {
        "images": [
            {"id": 1, "movie": "a", "timestamp": 1, "width": 100, "height": 10},
            {"id": 2, "movie": "b", "timestamp": 2.5, "width": 10, "height": 10},
        ],
        "annotations": [
            {"image_id": 1, "bbox": [10, 2, 30, 7]},
            {"image_id": 1, "bbox": [0, 0, 50, 5]},
            {"image_id": 2, "bbox": [1, 2, 3, 7]},
        ],
    }
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    for source in (rows, tmp_path / "own.json", tmp_path / "people.csv", str(tmp_path / "coco.json")):
        given = GivenBoxes(source)
        ((time, people),) = given.of("folder/a.mp4")
        assert time == 1.0 and people.scores.tolist() == [1, 1]
        np.testing.assert_allclose(people.boxes, rows["a"][0]["boxes"], atol=1e-6)
        assert [one.time for one in given.of("b")] == [2.5]
        with pytest.raises(ValueError, match="no boxes of c, but of a, b\\."):
            given.of("c.mp4")
    (tmp_path / "scores.csv").write_text("a,1,0.1,0.2,0.4,0.9,,0.25\na,1,0,0,0.5,0.5,,1\n")
    assert GivenBoxes(tmp_path / "scores.csv").of("a")[0].people.scores.tolist() == [0.25, 1]
    assert GivenBoxes(rows["a"]).of(np.zeros(3))[0].time == 1.0


def test_a_wrong_file_names_its_line(tmp_path):
    for content, words in (
        ("a,1,0.1,0.2,nan,0.9\n", "line 1.*its box"),
        ("a,1,0.1,0.2,0.4,0.9,,0.5\na,1,0.1,0.2,0.4,0.8,,1.5\n", "line 2.*score"),
        ("a,1,0.1,0.2,0.1,0.9\n", "no area"),
        ("a,1,1.1,0.2,1.2,0.9\n", "outside the frame"),
    ):
        (tmp_path / "x.csv").write_text(content)
        with pytest.raises(ManifestError, match=words):
            GivenBoxes(tmp_path / "x.csv")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(ManifestError, match="not valid JSON"):
        GivenBoxes(tmp_path / "x.json")
    with pytest.raises(ManifestError, match="cannot be opened"):
        GivenBoxes(tmp_path / "none.json")
