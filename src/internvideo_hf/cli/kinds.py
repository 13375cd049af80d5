"""What a model is for, told from its config.json: a command refuses another kind, and names the command that takes it.

Only folders are asked, as of converted and released models; a name on the Hub is met by the model's own checks.
"""

import json
from pathlib import Path

from internvideo_hf.utils.names import with_article

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
# Task of a protocol -> the kind that it evaluates, where that is no model of video and text.
_OF_TASK = {
    "classification": CLASSIFIER,
    "open_set": CLASSIFIER,
    "multi_label": CLASSIFIER,
    "regression": CLASSIFIER,
    "captioning": CAPTIONER,
    "question_answering": ANSWERER,
    "temporal_grounding": GROUNDER,
    "temporal_localization": FEATURE_HEAD,
    "action_detection": ACTION_DETECTOR,
    "short_term_anticipation": ANTICIPATOR,
    "object_detection": OBJECT_DETECTOR,
    "hand_prediction": HAND_PREDICTOR,
}
# Kind -> the part that makes a model one.
_NEEDS = {
    AUTOENCODER: "decoder to reconstruct with",
    CAPTIONER: "decoder to write captions with",
    ANSWERER: "head that scores answers",
    ACTION_DETECTOR: "head that scores the actions of people",
    ANTICIPATOR: "head that tells what will be done to objects",
    HAND_PREDICTOR: "head that predicts points",
}
# Kind -> the commands that take it.
_COMMANDS = {
    CLASSIFIER: ("classify VIDEO --model {model}", "evaluate --model {model} --data-root FOLDER"),
    DUAL_ENCODER: (
        'zero-shot VIDEO --model {model} --labels "a dog runs, a car stops"',
        "index FOLDER --model {model} --out INDEX",
    ),
    CAPTIONER: (
        "caption VIDEO --model {model}",
        "evaluate captioning/captions --model {model} --data-root FOLDER",
        'zero-shot VIDEO --model {model} --labels "a dog runs, a car stops"',
    ),
    ANSWERER: (
        'ask VIDEO "what does the man do?" --model {model}',
        "evaluate question_answering/custom --model {model} --data-root FOLDER",
    ),
    AUTOENCODER: ("reconstruct VIDEO --model {model} --out grid.png",),
    ACTION_DETECTOR: ("detect-actions VIDEO --model {model} --detector PekingU/rtdetr_r50vd",),
    GROUNDER: (
        'ground VIDEO "a man opens the door" --model {model}',
        "evaluate temporal_grounding/custom --model {model} --data-root FOLDER",
    ),
    ANTICIPATOR: ("evaluate ego4d/short_term_anticipation --model {model} --data-root FOLDER",),
    HAND_PREDICTOR: ("evaluate ego4d/hand_prediction --model {model} --data-root FOLDER",),
    ENCODER: ("extract VIDEO --model {model} --out FOLDER",),
}


def kind_of(folder: Path) -> tuple[str, str] | None:
    """Return the kind and the class of the model in a folder; None if no config.json names a class.

    Args:
        folder: of a model, as `internvideo_hf.utils.pretrained.check_model_folder` has found it right.
    """
    from internvideo_hf.auto import FAMILIES

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


def check_kind(model: str, folder: str, wanted: str) -> None:
    """Refuse a model that a command cannot use, before it is loaded.

    Args:
        model: as the user has named it.
        folder: where it is, or its name on the Hub.
        wanted: the kind that the command needs.

    Raises:
        ValueError: if it is of another kind; the message names commands that take it.
    """
    found = kind_of(Path(folder))
    if found is not None and not serves(found[0], wanted):
        raise ValueError(f"{not_of_kind(model, found[1], wanted)} {how_to_use(model, found[0])}")


def serves(kind: str, wanted: str) -> bool:
    """Return whether the commands for a kind of model take another kind."""
    return wanted in (kind, _ALSO.get(kind))


def kind_for(task: str) -> str:
    """Return the kind of model that the protocols of a task evaluate."""
    return _OF_TASK.get(task, DUAL_ENCODER)


def not_of_kind(model: str, name: str, wanted: str) -> str:
    """Return a sentence that says what a model is not, and which class it is."""
    lacks = f", which has no {_NEEDS[wanted]}" if wanted in _NEEDS else ""
    return f"{model} is not {wanted}: it holds {with_article(name)}{lacks}."


def how_to_use(model: str, kind: str) -> str:
    """Return a sentence that names the commands for a kind of model."""
    if kind == NAVIGATOR:
        return f"{model} is used from Python, by `internvideo_hf.tasks.navigation.agent`."
    if kind not in _COMMANDS:
        return (
            f"{model} reads features that `internvideo extract` writes. `internvideo localize VIDEO --model {model}` "
            "makes them and reads them, with --proposals of a head that refines the segments of another."
        )
    commands = " or ".join(f"`internvideo {command.format(model=model)}`" for command in _COMMANDS[kind])
    return f"What takes it: {commands}."
