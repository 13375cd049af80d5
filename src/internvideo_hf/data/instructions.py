"""Instruction data: conversations about videos, as of VideoChat, as messages of transformers' chat templates.

Two layouts are read. VideoChat's: a list of {"video": path, "QA": [{"i": instruction, "q": question, "a": answer}]},
where "i" may be missing and "q" empty. LLaVA's: {"video": path, "conversations": [{"from": "human", "value": text},
{"from": "gpt", "value": text}]}, where "<video>" in a text stands for the video. Images have "image" in place of
"video". Other columns are ignored.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers.utils import logging

from internvideo_hf.data.layouts import BadRow, Record, is_missing, seconds_of
from internvideo_hf.data.records import ManifestError, read_records, require_datasets
from internvideo_hf.utils.names import lookup
from internvideo_hf.video.sources import is_url

if TYPE_CHECKING:
    import datasets

logger = logging.get_logger(__name__)
SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
KINDS = ("video", "image")
_ROLES = {"human": USER, "user": USER, "gpt": ASSISTANT, "assistant": ASSISTANT, "system": SYSTEM}
_PLACEHOLDERS = ("<video>", "<image>")


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation.

    Attributes:
        role: "system", "user" or "assistant".
        text: what is said; empty where a user only shows the video.
    """

    role: str
    text: str


@dataclass(frozen=True)
class Conversation:
    """A conversation about a video.

    Attributes:
        video: path or address of the video or image; None for a conversation without one.
        kind: "video" or "image".
        turns: in their order, user and assistant by turns, and the assistant last.
        start: begin of the segment in seconds; None with `end` for the whole video.
        end: its end.
    """

    video: str | None
    kind: str
    turns: tuple[Turn, ...]
    start: float | None = None
    end: float | None = None


def read_instructions(
    path: str | Path, data_root: str | Path | None = None, *, check_files: bool = True, skip_missing: bool = False
) -> Iterator[Conversation]:
    """Read a file of conversations.

    Args:
        path: json or jsonl, in one of the two layouts.
        data_root: folder that paths of videos begin in; the file's own folder where None.
        check_files: whether a path where nothing is, is an error. Addresses are not asked.
        skip_missing: leave out such conversations, with a warning that counts them, instead.

    Raises:
        ManifestError: if the file cannot be read, or a conversation is none: without turns, two in a row of one role,
            or the last one not the assistant's.
    """
    path = Path(path).expanduser()
    root = path.parent if data_root is None else Path(data_root).expanduser()
    missing: list[str] = []
    for place, record in read_records(path):
        try:
            conversation = _conversation(record, root)
        except BadRow as bad:
            raise ManifestError(str(path), place, *bad.args) from None
        video = conversation.video
        if check_files and video is not None and not is_url(video) and not os.path.exists(video):
            if not skip_missing:
                raise ManifestError(
                    str(path), place, f"there is no {video}", "Give data_root, or skip_missing=True to go without."
                )
            missing.append(video)
            continue
        yield conversation
    if missing:
        logger.warning(f"{path}: {len(missing)} conversations have no file and are left out, the first {missing[0]}.")


def load_instructions(path: str | Path, data_root: str | Path | None = None, **options: Any) -> "datasets.Dataset":
    """Make a `datasets.Dataset` of a file of conversations.

    Args:
        path: as of `read_instructions`.
        data_root: as of `read_instructions`.
        **options: as of `read_instructions`.

    Returns:
        Rows with the fields of `Conversation`, `turns` as a list of role and text; `messages_of` takes such a row.
        Messages themselves would not survive a table, whose rows all have the same keys: templates ask which they
        have.

    Raises:
        ManifestError: as `read_instructions`; if no conversation is left.
        ImportError: if `datasets` is not installed.
    """
    datasets = require_datasets()
    rows = [asdict(conversation) for conversation in read_instructions(path, data_root, **options)]
    if not rows:
        raise ManifestError(str(path), None, "no conversation is left", "Check data_root.")
    text, number = datasets.Value("string"), datasets.Value("float64")
    turns = datasets.List({"role": text, "text": text})
    features = {"video": text, "kind": text, "turns": turns, "start": number, "end": number}
    return datasets.Dataset.from_list(rows, features=datasets.Features(features))


def messages_of(conversation: Conversation | Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a conversation as messages for `apply_chat_template` of transformers' processors.

    Args:
        conversation: from `read_instructions`, or a row of `load_instructions`.

    Returns:
        Messages with `role` and `content`, a list of {"type": "text", "text"} and, at the begin of the first turn of
        the user, {"type": "video", "path"} ("url" for an address). `start` and `end` are not part of messages:
        cut the segment first, as `internvideo dataset build` does.
    """
    if isinstance(conversation, Conversation):
        conversation = asdict(conversation)
    messages, video = [], conversation["video"]
    for turn in conversation["turns"]:
        content: list[dict[str, Any]] = []
        if video is not None and turn["role"] == USER:
            content.append({"type": conversation["kind"], "url" if is_url(video) else "path": video})
            video = None
        if turn["text"]:
            content.append({"type": "text", "text": turn["text"]})
        messages.append({"role": turn["role"], "content": content})
    return messages


def _conversation(record: Record, root: Path) -> Conversation:
    kind = next((name for name in KINDS if not is_missing(record.get(name))), None)
    if "QA" in record:
        turns = _turns_of_videochat(record["QA"])
    elif "conversations" in record:
        turns = _turns_of_llava(record["conversations"])
    else:
        raise BadRow(
            f"it has neither QA nor conversations, but {', '.join(map(str, record)) or 'nothing'}",
            "Give a file of VideoChat's or LLaVA's layout.",
        )
    _check_order(turns, has_video=kind is not None)
    video = None if kind is None else record[kind]
    if video is not None and not isinstance(video, str):
        raise BadRow(f"the {kind} is {video!r}, expected a path", "Conversations about one video can be read.")
    start, end = (seconds_of(record.get(name), name) for name in ("start", "end"))
    if (start is None) != (end is None) or (start is not None and end is not None and end <= start):
        raise BadRow(f"the segment goes from {start} to {end} seconds", "Give a start and a later end, or neither.")
    path = video if video is None or is_url(video) else os.path.join(root, video)
    return Conversation(path, kind or KINDS[0], turns, start, end)


def _turns_of_videochat(pairs: Any) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    for pair in _objects(pairs, "QA"):
        # The instruction stands once, with the video; VideoChat reads that of the first pair.
        instruction = _text(pair, "i") if not turns else ""
        asked = "\n".join(filter(None, [instruction, _text(pair, "q")]))
        turns += [Turn(USER, asked), Turn(ASSISTANT, _text(pair, "a"))]
    return tuple(turns)


def _turns_of_llava(entries: Any) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    for entry in _objects(entries, "conversations"):
        text = _text(entry, "value")
        for placeholder in _PLACEHOLDERS:
            text = text.replace(placeholder, "")
        turns.append(Turn(lookup(_ROLES, entry.get("from"), "from", _NoRole), text.strip()))
    return tuple(turns)


class _NoRole(BadRow):
    """A turn of nobody."""

    def __init__(self, message: str):
        super().__init__(message.removesuffix("."), "Correct it.")


def _objects(value: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value or not all(isinstance(entry, dict) for entry in value):
        raise BadRow(f"{name} is {str(value)[:80]!r}, expected a list of objects", "Correct it.")
    return value


def _text(entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    if value is not None and not isinstance(value, str):
        raise BadRow(f"{name} is {value!r}, expected text", "Correct it.")
    return (value or "").strip()


def _check_order(turns: tuple[Turn, ...], *, has_video: bool) -> None:
    said = turns[1:] if turns[0].role == SYSTEM else turns
    roles = [turn.role for turn in said]
    if roles != [USER, ASSISTANT] * (len(roles) // 2) or not roles:
        raise BadRow(
            f"the roles are {', '.join(turn.role for turn in turns)}", "Expected user and assistant by turns."
        )
    for number, turn in enumerate(said):
        if not turn.text and not (number == 0 and has_video):
            raise BadRow(
                f"turn {number + 1}, of the {turn.role}, is empty", "Only the first one may only show a video."
            )
