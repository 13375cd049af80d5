"""Observers: logits, features, passes and members of every family's classifier, by hand."""

import numpy as np
import pytest
import torch
from models.common.test_classification import CLASSIFIERS
from models.internvideo import test_modeling_internvideo as fused
from models.model_checks import draw, move_from_start
from tasks.open_set.drawn import write_classifier
from video.clips import write_video

from internvideo_hf import InternVideoForVideoClassification
from internvideo_hf.inference.classifier import Classifier
from internvideo_hf.inference.open_set.methods import METHODS, make_method
from internvideo_hf.inference.open_set.observations import Observations
from internvideo_hf.inference.open_set.observer import Observer, logits_and_features, scorer_for
from internvideo_hf.inference.runner import RunSettings

HERE = RunSettings(batch_size=4, workers=0, quiet=True, max_damaged=0.5)
FAMILIES = {**CLASSIFIERS, InternVideoForVideoClassification: fused}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_classifier(tmp_path_factory.mktemp("observed"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    return [{"video": str(write_video(root / f"{n}.mp4", num_frames=9 + n)), "label": n} for n in range(3)]


def tiny(kind):
    """Return a small classifier of a family, and clips of two videos in two views."""
    is_fused = kind is InternVideoForVideoClassification
    model = move_from_start(kind(FAMILIES[kind].tiny_config(id2label={0: "a", 1: "b", 2: "c"})))
    views = fused.clips(4) if is_fused else {"pixel_values_videos": draw(4, 4, 3, 32, 32)}
    return model, {name: pixels.unflatten(0, (2, 2)) for name, pixels in views.items()}


class OfTensors(Classifier):
    """A classifier of tensors, which needs no processor."""

    def __init__(self, model):
        super().__init__("tiny", model, None, 2, 1)


@torch.no_grad()
@pytest.mark.parametrize("kind", FAMILIES, ids=lambda kind: kind.__name__)
def test_every_classifier_answers_to_every_method(kind):
    model, views = tiny(kind)
    flat = {name: pixels.flatten(0, 1) for name, pixels in views.items()}
    logits, features = logits_and_features(model, flat, batch_size=3)
    assert features.shape[0] == 4
    head = model.classifier(features)
    torch.testing.assert_close(head[0] if isinstance(head, tuple) else head, logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits, model(**flat).logits, atol=1e-5, rtol=1e-5)
    for name in sorted(METHODS.keys() - {"ensemble", "openmax"}):
        options = {"rate": 0.5, "passes": 3} if name == "mc_dropout" else {}
        options |= {"steps": 3} if METHODS[name].learns else {}
        observer = Observer(OfTensors(model), make_method(name, **options))
        found = observer.answers(views, batch_size=3)
        torch.testing.assert_close(found["logits"].flatten(0, 1), logits, atol=1e-5, rtol=1e-5)
        observer.method.fit(Observations(**found, labels=torch.tensor([0, 1])))
        assert observer.method.score(Observations(**found)).shape == (2,)


def test_passes_differ_by_the_models_own_dropout_and_repeat(folder, rows):
    classifier = Classifier.load(folder, device="cpu")
    with pytest.raises(ValueError, match=r"no dropout layers with a rate above 0. Set rate=0.5"):
        Observer.of(classifier, make_method("mc_dropout"))
    torch.nn.init.constant_(classifier.model.classifier.bias, 0)
    classifier.model.dropout = torch.nn.Dropout(0.5)
    observer = Observer.of(classifier, make_method("mc_dropout", passes=4))
    seen, _, _ = observer.observe(rows, HERE)
    assert seen.samples.shape == (3, 1, 4, 3) and seen.samples.std(dim=2).min() > 0
    alone, _, _ = observer.observe(rows[2:], HERE)  # whatever goes before it
    assert alone.samples.equal(seen.samples[2:])
    views = {name: pixels[None] for name, pixels in observer.reader(rows[0]).items()}
    before = torch.random.get_rng_state()
    observer.answers(views)
    assert torch.random.get_rng_state().equal(before) and not classifier.model.dropout.training
    with torch.no_grad():
        torch.manual_seed(3 * 1234)
        classifier.model.dropout.train()
        expected = classifier.model(views["pixel_values_videos"][0]).logits
        classifier.model.dropout.eval()
    torch.testing.assert_close(seen.samples[0, :, 3], expected)


def test_members_are_averaged_over_their_own_views(folder, rows, tmp_path):
    other = write_classifier(tmp_path / "other", seed=3)
    for merge in ("prob", "score"):
        classifier = Classifier.load(folder, 2, 1, device="cpu")
        observer = Observer.of(classifier, make_method("ensemble", members=[str(other)], merge=merge))
        seen, _, _ = observer.observe(rows, HERE)
        assert seen.logits.shape == (3, 2, 3) and seen.samples.shape == (3, 1, 2, 3)
        if merge == "prob":
            for number, member in enumerate((classifier, Classifier.load(other, device="cpu"))):
                expected, _ = member.classify(rows, HERE)
                np.testing.assert_allclose(seen.samples[:, 0, number].double().softmax(-1), expected, atol=1e-5)
    first = observer.subject
    write_classifier(other, seed=4)
    observer = Observer.of(classifier, make_method("ensemble", members=[str(other)]))
    assert observer.subject.fingerprint != first.fingerprint
    observer = Observer.of(classifier, make_method("ensemble", members=[str(other), str(folder)]))
    with pytest.raises(ValueError, match=f"The member {folder} has the weights of .*never disagree"):
        _ = observer.subject
    with pytest.raises(ValueError, match="set members="):
        Observer.of(classifier, make_method("ensemble"))
    with pytest.raises(ValueError, match="demo-classifier has 12 classes, .* 3, or they are in another order"):
        Observer.of(classifier, make_method("ensemble", members=["demo-classifier"]))


def test_unreadable_videos_are_left_out_with_their_labels(folder, rows, tmp_path):
    (tmp_path / "noise.mp4").write_bytes(b"noise")
    listed = [{"video": str(tmp_path / "noise.mp4"), "label": 2}, *rows[:2]]
    observer = Observer.of(Classifier.load(folder, device="cpu"), make_method("openmax"))
    seen, kept, causes = observer.observe(listed, HERE)
    assert kept == [1, 2] and seen.labels.tolist() == [0, 1] and list(causes) == [listed[0]["video"]]
    assert seen.features.shape == (2, 1, 24)
    with pytest.raises(ValueError, match="The list has no videos"):
        observer.observe([], HERE)


def test_numbers_that_are_none_are_refused(folder, rows):
    classifier = Classifier.load(folder, device="cpu")
    classifier.model.classifier.weight.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="A number of the logits of .* is not finite: the model's weights"):
        Observer.of(classifier, make_method("energy")).observe(rows, HERE)


def test_the_evidence_is_the_models(tmp_path):
    folder = write_classifier(tmp_path, is_evidential=True, evidential={"evidence": "softplus"})
    classifier = Classifier.load(folder, device="cpu")
    assert scorer_for(classifier, "evidential")[0].method.evidence == "softplus"
    assert scorer_for(classifier, "evidential", evidence="relu")[0].method.evidence == "relu"
    clips = draw(2, 1, 3, 3, 32, 32)
    found = Observer.of(classifier, make_method("evidential", evidence="softplus")).answers(
        {"pixel_values_videos": clips}
    )
    from internvideo_hf import UniFormerV2ForOpenSetClassification

    model = UniFormerV2ForOpenSetClassification.from_pretrained(folder).eval()
    expected = model(clips[:, 0]).uncertainty.double()
    score = make_method("evidential", evidence="softplus").score(Observations(**found))
    torch.testing.assert_close(score, expected, atol=1e-5, rtol=1e-5)
