"""Which commands take which kind of model: a command refuses another kind, and names the command that takes it.

Only folders are asked, as of converted and released models; a name on the Hub is met by the model's own checks.
"""

from pathlib import Path

from internvideo_hf.inference.kinds import (
    ACTION_DETECTOR,
    ANSWERER,
    ANTICIPATOR,
    AUTOENCODER,
    CAPTIONER,
    CLASSIFIER,
    DUAL_ENCODER,
    ENCODER,
    FEATURE_HEAD,
    GROUNDER,
    HAND_PREDICTOR,
    NAVIGATOR,
    OBJECT_DETECTOR,
    kind_of,
    serves,
)
from internvideo_hf.utils.names import with_article

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
