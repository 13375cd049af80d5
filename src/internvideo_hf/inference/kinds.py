"""What a model is for, told from its config.json."""

import json
from pathlib import Path

from internvideo_hf.auto import FAMILIES

CLASSIFIER, DUAL_ENCODER, CAPTIONER, ANSWERER, AUTOENCODER, ENCODER, FEATURE_HEAD, ACTION_DETECTOR = (
    "a classifier",
    "a model of video and text",
    "a model of captions",
    "a model of answers to questions",
    "a masked autoencoder",
    "an encoder",
    "a head on features",
    "an action detector",
)
GROUNDER, NAVIGATOR = "a head that grounds sentences in time", "a model of navigation"
ANTICIPATOR = "a model of short-term anticipation"
HAND_PREDICTOR = "a predictor of hands"
OBJECT_DETECTOR = "a detector of objects"
"""A model of transformers, of no family of this package."""
# Auto class -> the kind of the models that read no pixels.
_WITHOUT_PIXELS = {
    "AutoModelForTemporalLocalization": FEATURE_HEAD,
    "AutoModelForTemporalGrounding": GROUNDER,
}
# Kind -> another kind whose commands take it too.
_ALSO = {CAPTIONER: DUAL_ENCODER}


def kind_of(folder: Path) -> tuple[str, str] | None:
    """Return the kind and the class of the model in a folder; None if no config.json names a class.

    Args:
        folder: of a model, as `internvideo_hf.utils.pretrained.check_model_folder` has found it right.
    """
    file = folder / "config.json"
    config = json.loads(file.read_bytes()) if file.is_file() else {}
    family, name = FAMILIES.get(config.get("model_type", "")), (config.get("architectures") or [""])[0]
    if family is None or not name:
        return None
    if family.video_processor_name is None:
        kinds = [kind for auto, kind in _WITHOUT_PIXELS.items() if auto in family.model_names]
        return (kinds or [NAVIGATOR])[0], name
    if name.endswith(("ForVideoClassification", "ForOpenSetClassification")):
        return CLASSIFIER, name
    if name.endswith("ForHandPrediction"):
        return HAND_PREDICTOR, name
    if name.endswith("ForShortTermAnticipation"):
        return ANTICIPATOR, name
    if name.endswith("ForVideoActionDetection"):
        return ACTION_DETECTOR, name
    if name.endswith("ForPreTraining"):
        return AUTOENCODER, name
    if name.endswith("ForConditionalGeneration"):
        return CAPTIONER, name
    if name.endswith("ForQuestionAnswering"):
        return ANSWERER, name
    return DUAL_ENCODER if family.processor_name is not None else ENCODER, name


def serves(kind: str, wanted: str) -> bool:
    """Return whether the commands for a kind of model take another kind."""
    return wanted in (kind, _ALSO.get(kind))
