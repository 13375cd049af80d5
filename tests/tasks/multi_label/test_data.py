"""Lists of several labels: lists, text with bars, columns by the names of heads; and their targets."""

import json
from types import SimpleNamespace

import pytest
from tasks.small_classifiers import write_classifier

from internvideo_hf import ManifestError
from internvideo_hf.data.manifests import load_manifest
from internvideo_hf.evaluation.protocols import load_protocol
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.multi_label.data import labels_of, multi_hot, read, read_samples

VERBS, NOUNS = ["cut", "wash", "peel"], ["onion", "knife"]
HEADS = {"verb": "verbs.txt", "noun": "nouns.txt"}


@pytest.fixture
def root(tmp_path):
    for name in "abcd":
        (tmp_path / f"{name}.mp4").touch()
    (tmp_path / "verbs.txt").write_text("\n".join(VERBS))
    (tmp_path / "nouns.txt").write_text("\n".join(NOUNS))
    return tmp_path


def of_list(root, text: str, **options):
    (root / "list.csv").write_text(text)
    return read(root / "list.csv", root, **{"layout": None, "labels": None, **options})


def test_labels_are_lists_or_text_with_bars(root):
    labels = {"a.mp4": ["run", "jump"], "b.mp4": ["jump"], "c.mp4": [], "d.mp4": ["sit", "run"]}
    listed = [{"video": name, "labels": own} for name, own in labels.items()]
    (root / "list.json").write_text(json.dumps(listed))
    rows, classes = read(root / "list.json", root, layout=None, labels=None)
    assert classes == ["jump", "run", "sit"]
    assert rows["label"][:] == [[0, 1], [0], [], [1, 2]]
    rows, _ = of_list(root, "video,labels\na.mp4,run|jump\nb.mp4,jump\nd.mp4,sit | run\n")
    assert rows["label"][:] == [[0, 1], [0], [1, 2]]
    with pytest.raises(ManifestError, match="has no labels"):  # an empty field is unknown, not "of no class"
        of_list(root, "video,labels\na.mp4,run|jump\nc.mp4,\n")


@pytest.mark.parametrize(
    "text",
    [
        "video,labels\na.mp4,cut|knife\nb.mp4,wash|onion\nc.mp4,peel|\n",
        "video,verb,noun\na.mp4,cut,knife\nb.mp4,wash,onion\nc.mp4,peel,\n",
        "Noun,video,start,end,Verb \nknife,a.mp4,,,cut\nonion,b.mp4,,,wash\n,c.mp4,,,peel\n",
    ],
)
def test_heads_are_text_with_bars_or_columns(root, text):
    rows, classes = of_list(root, text, heads=HEADS)
    assert classes == {"verb": VERBS, "noun": NOUNS}
    assert rows["label"][:] == [[0, 1], [1, 0], [2, -100]]


def test_heads_may_be_called_as_columns_of_labels_are(root):
    rows, _ = of_list(
        root, "video,action,target\na.mp4,cut,knife\n", heads={"action": "verbs.txt", "target": "nouns.txt"}
    )
    assert rows["label"][:] == [[0, 1]]


@pytest.mark.parametrize(
    ("text", "options", "error", "message"),
    [
        ("video,labels\na.mp4,cut\n", {"heads": HEADS}, ManifestError, "it has 1 labels, expected 2: verb, noun"),
        ("video,labels\na.mp4,cut|fork\n", {"heads": HEADS}, ManifestError, "'fork' is none of the 2"),
        (
            "video,verb\na.mp4,cut\n",
            {"heads": HEADS},
            ManifestError,
            "columns for some of verb, noun, and not for all",
        ),
        ("video,labels\na.mp4,3|1\n", {}, RecipeError, "name their classes by data.labels"),
        ("video,labels\na.mp4,run\na.mp4,jump\n", {}, RecipeError, "several rows for .*a.mp4, expected one with all"),
        ("video,labels\na.mp4,run\n", {"labels": 7}, RecipeError, "several labels need names"),
    ],
)
def test_bad_lists_are_refused(root, text, options, error, message):
    with pytest.raises(error, match=message):
        of_list(root, text, **options)


def test_lists_are_for_this_task(root):
    (root / "list.json").write_text(json.dumps([{"video": "a.mp4", "labels": ["jump"]}]))
    with pytest.raises(ManifestError, match="expected one name or number. Several labels"):
        load_manifest(root / "list.json", root, labels=["jump", "run", "sit"])


def test_targets_are_one_for_each_class_of_a_video():
    assert multi_hot([[0, 2], []], 3).tolist() == [[1, 0, 1], [0, 0, 0]]
    rows = [{"label": [2, 0]}, {"label": [1, -100]}]
    plain = SimpleNamespace(label_heads=None, id2label={0: "x", 1: "y", 2: "z"})
    assert labels_of(rows[:1], plain).tolist() == [[1, 0, 1]]
    assert labels_of(rows, SimpleNamespace(label_heads={"verb": VERBS, "noun": NOUNS})).tolist() == [[2, 0], [1, -100]]


def test_the_list_of_an_evaluation_has_the_classes_of_the_model(root):
    names = ["jump", "run", "sit"]
    of_classes = write_classifier(root / "classes", id2label=dict(enumerate(names)))
    of_heads = write_classifier(root / "heads", label_heads={"verb": VERBS, "noun": NOUNS})
    for text, model, labels in (
        ("video,labels\na.mp4,run|jump\nb.mp4,sit\n", of_classes, [[1, 1, 0], [0, 0, 1]]),
        ("video,labels\na.mp4,0|1\nb.mp4,2\n", of_classes, [[1, 1, 0], [0, 0, 1]]),
        ("video,noun,verb\na.mp4,knife,cut\nb.mp4,,peel\n", of_heads, [[0, 1], [2, -100]]),
    ):
        (root / "val.csv").write_text(text)
        assert read_samples(load_protocol("multi_label/custom"), root, str(model)).labels.tolist() == labels
    for text, model, changes, message in (
        ("video,labels\na.mp4,run\na.mp4,jump\n", of_classes, [], "several rows for .*a.mp4, expected one with all"),
        ("video,labels\na.mp4,run\nb.mp4,\n", of_classes, [], "rows without a label"),
        ("video,labels\na.mp4,swim\n", of_classes, [], "'swim' is none of the 3"),
        ("video,labels\na.mp4,cut|knife\n", of_heads, ["data.labels=verbs.txt"], "has the classes of verb, noun"),
    ):
        (root / "val.csv").write_text(text)
        with pytest.raises((RecipeError, ManifestError), match=message):
            read_samples(load_protocol("multi_label/custom", changes), root, str(model))
