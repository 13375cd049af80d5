"""The head that predicts points, on every family that has it."""

import pytest
import torch
from models.common.test_classification import CLASSIFIERS
from models.model_checks import draw
from torch import multiprocessing
from transformers import AutoModelForVideoClassification, Trainer, TrainingArguments

from internvideo_hf import (
    InternVideoMAEForHandPrediction,
    UniFormerForHandPrediction,
    UniFormerV2ForHandPrediction,
    ViCLIPForHandPrediction,
)
from internvideo_hf.models.common.hand_prediction import HAND_LABELS, point_loss
from internvideo_hf.training.trainer import VideoTrainer, VideoTrainingArguments

KINDS = (
    InternVideoMAEForHandPrediction,
    UniFormerForHandPrediction,
    UniFormerV2ForHandPrediction,
    ViCLIPForHandPrediction,
)
CLIPS = draw(4, 4, 3, 32, 32)
LABELS = torch.tensor([[3.0, 40.0], [0.0, 7.0], [0.0, 0.0], [-2.0, 0.0]])
MASK = torch.tensor([[1, 1], [0, 1], [0, 0], [1, 0]])


def tiny(kind=InternVideoMAEForHandPrediction, num_labels=2, **changes):
    torch.manual_seed(0)
    config = CLASSIFIERS[next(base for base in kind.__mro__ if base in CLASSIFIERS)].tiny_config(num_labels=num_labels)
    for name, value in changes.items():
        setattr(config, name, value)
    return kind(config).eval()


def with_logits(model, logits):
    """Let the model give these logits."""
    model.classify = lambda outputs: torch.tensor(logits)
    return model


def test_labels_are_five_times_of_two_hands():
    assert len(HAND_LABELS) == 20
    assert HAND_LABELS[:5] == ("pre_45 left x", "pre_45 left y", "pre_45 right x", "pre_45 right y", "pre_30 left x")
    assert HAND_LABELS[-1] == "contact_frame right y"


def test_loss_is_a_parabola_up_to_five_pixels_and_then_a_line():
    # Errors 3, 10, 5 of known labels; 100 of an unknown one.
    model = with_logits(tiny(), [[3.0, 30.0], [100.0, 5.0]])
    labels, mask = torch.tensor([[0.0, 20.0], [0.0, 0.0]]), torch.tensor([[1.0, 1], [0, 1]])
    outputs = model(CLIPS[:2], labels, mask)
    assert outputs.loss.item() == pytest.approx((3**2 / 10 + (10 - 2.5) + 2.5) / 3)
    assert set(outputs) == {"loss", "logits"} and set(model(CLIPS[:2])) == {"logits"}
    assert model(CLIPS[:2], labels).loss.item() == pytest.approx((0.9 + 7.5 + 2.5 + 97.5) / 4)
    loss, logits = model(CLIPS[:2], labels, mask, return_dict=False)
    assert loss == outputs.loss and torch.equal(logits, outputs.logits)


def test_unknown_labels_may_hold_anything_and_get_no_gradient():
    logits = torch.zeros(1, 2, requires_grad=True)
    total, count = point_loss(logits, torch.tensor([[torch.nan, 2.0]]), torch.tensor([[False, True]]))
    total.backward()
    assert (total.item(), count.item()) == (pytest.approx(0.4), 1)
    torch.testing.assert_close(logits.grad, torch.tensor([[0.0, -0.4]]))
    model = with_logits(tiny(), [[1.0, 1.0]])
    assert model(CLIPS[:1], torch.zeros(1, 2), torch.zeros(1, 2)).loss == 0


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_classifier_and_hand_predictor_load_each_other(kind, tmp_path):
    model = tiny(kind)
    model.save_pretrained(tmp_path)
    plain = AutoModelForVideoClassification.from_pretrained(tmp_path)
    assert type(plain) in CLASSIFIERS and torch.equal(plain(CLIPS).logits, model(CLIPS).logits)
    plain.save_pretrained(tmp_path)
    assert torch.equal(kind.from_pretrained(tmp_path)(CLIPS).logits, model(CLIPS).logits)
    assert kind.from_pretrained(tmp_path, num_labels=20, ignore_mismatched_sizes=True)(CLIPS).logits.shape == (4, 20)


def test_shapes_that_do_not_fit_are_refused_with_what_would():
    model = tiny()
    with pytest.raises(ValueError, match=r"labels have the shape \(4, 20\), expected \(4, 2\)"):
        model(CLIPS, torch.zeros(4, 20))
    with pytest.raises(ValueError, match=r"label_mask has the shape \(4,\), expected that of the labels, \(4, 2\)"):
        model(CLIPS, LABELS, torch.ones(4))


@pytest.mark.parametrize(
    "changes", [{"problem_type": "single_label_classification"}, {"label_heads": {"verb": ["cut", "wash"]}}]
)
def test_what_is_a_classification_is_refused(changes):
    with pytest.raises(ValueError, match="gives each clip coordinates"):
        tiny(**changes)


def stepped(folder, kind, size):
    """Return the weights after a step of gradient descent on the four samples, `size` at a time."""
    model = tiny()
    arguments = {VideoTrainer: VideoTrainingArguments, Trainer: TrainingArguments}[kind](
        output_dir=str(folder),
        per_device_train_batch_size=size,
        gradient_accumulation_steps=4 // size,
        max_steps=1,
        optim="sgd",
        learning_rate=0.1,
        weight_decay=0.0,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        save_strategy="no",
        remove_unused_columns=False,
        disable_tqdm=True,
        use_cpu=True,
    )
    rows = [
        {"pixel_values_videos": CLIPS[row], "labels": LABELS[row], "label_mask": MASK[row]}
        for row in range(len(CLIPS))
    ]
    kind(model, arguments, train_dataset=rows).train()
    return dict(model.named_parameters())


def gradients_of_mean(model):
    """Return the gradients of the sum over the four known labels by their number, written out."""
    errors = (model(CLIPS).logits - LABELS)[MASK.bool()]
    (torch.where(errors.abs() < 5, errors**2 / 10, errors.abs() - 2.5).sum() / 4).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("size", [4, 2, 1])
def test_parts_of_a_batch_train_like_the_mean_over_all_known_labels(size, tmp_path):
    start, slopes = dict(tiny().named_parameters()), gradients_of_mean(tiny())
    for name, weights in stepped(tmp_path, VideoTrainer, size).items():
        torch.testing.assert_close(weights, start[name] - 0.1 * slopes[name], atol=1e-6, rtol=1e-5, msg=name)


def test_trainer_of_transformers_divides_by_all_labels(tmp_path):
    start, slopes = dict(tiny().named_parameters()), gradients_of_mean(tiny())
    for name, weights in stepped(tmp_path, Trainer, 1).items():
        torch.testing.assert_close(weights, start[name] - 0.05 * slopes[name], atol=1e-6, rtol=1e-5, msg=name)


def part_of_a_process(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    model = torch.nn.parallel.DistributedDataParallel(tiny().train())
    rows = slice(0, 2) if rank == 0 else slice(2, 4)  # three known labels, and one
    model(CLIPS[rows], LABELS[rows], MASK[rows]).loss.backward()
    torch.save({name: tensor.grad for name, tensor in model.module.named_parameters()}, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_one(tmp_path):
    multiprocessing.spawn(part_of_a_process, (str(tmp_path),), nprocs=2)
    found = torch.load(tmp_path / "0.pt")
    for name, expected in gradients_of_mean(tiny()).items():
        torch.testing.assert_close(found[name], expected, atol=1e-6, rtol=1e-5, msg=name)
