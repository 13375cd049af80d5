"""The evidential head of open-set classifiers, which say how little they know of a clip."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers.configuration_utils import PreTrainedConfig
from transformers.utils import ModelOutput

from internvideo_hf.models.common.classification import ClassificationHead
from internvideo_hf.models.common.configuration import evidential_settings, head_slices
from internvideo_hf.models.common.evidential import concentrations, evidential_losses, mean_of_known, uncertainty
from internvideo_hf.models.common.narrowing import known


@dataclass
class OpenSetOutput(ModelOutput):
    """The result of an open-set classifier.

    Attributes:
        loss: the evidential loss, the sum of the terms below.
        logits: `(batch, num_labels)`; `internvideo_hf.models.common.evidential` has the probabilities of its evidence.
        uncertainty: above 0, and 1 without evidence for any class, float32, `(batch,)`.
        cls_loss, variance_loss, kl_loss, avu_loss: the terms, as far as `config.evidential` has them; the last two
            with their weight of this epoch.
        hidden_states, attentions: of the encoder, where asked for.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    uncertainty: torch.Tensor | None = None
    cls_loss: torch.Tensor | None = None
    variance_loss: torch.Tensor | None = None
    kl_loss: torch.Tensor | None = None
    avu_loss: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class OpenSetHead(ClassificationHead):
    """Turns a classifier into an open-set one; goes before the class of the classifier, whose folders it loads.

    Attributes:
        evidential: the evidence and the loss, as the configuration had them when the model was made.
        annealing_weight: of the loss's annealed terms, 0-1. `VideoTrainer` sets it by `set_epoch`; it is 1 otherwise.
    """

    output_class: type[ModelOutput] = OpenSetOutput
    annealing_weight: float = 1.0

    def __init__(self, config: PreTrainedConfig):
        super().__init__(config)
        is_single = config.problem_type in (None, "single_label_classification") and not head_slices(config)
        if not is_single or known(config.num_labels) < 2:
            raise ValueError(
                f"An open-set classifier gives each clip one of several classes, and got num_labels="
                f"{config.num_labels}, problem_type={config.problem_type!r}, label_heads={list(head_slices(config))}. "
                "Give it two classes or more, and leave out problem_type and label_heads."
            )
        self.evidential = evidential_settings(config)

    def set_epoch(self, epoch: int, num_epochs: int) -> None:
        """Set the weight of the loss's annealed terms for an epoch of training.

        Args:
            epoch: counted from 0.
            num_epochs: of the training.
        """
        self.annealing_weight = self.evidential.annealing_weight(epoch, num_epochs)

    def result(self, logits: torch.Tensor, labels: torch.Tensor | None, **outputs: Any) -> ModelOutput:
        """Return the output with the uncertainty, and with the evidential loss of labels.

        Args:
            logits: `(batch, num_labels)`.
            labels: class numbers `(batch,)`, or soft targets `(batch, num_labels)`.
            outputs: other fields of the output.
        """
        loss = None
        if labels is not None:
            terms = evidential_losses(logits, labels, self.evidential, self.annealing_weight)
            means = {f"{name}_loss": mean_of_known(term, labels) for name, term in terms.items()}
            loss, outputs = torch.stack(list(means.values())).sum(), outputs | means
        doubt = uncertainty(concentrations(logits, self.evidential.evidence))
        return self.output_class(loss=loss, logits=logits, uncertainty=doubt, **outputs)
