"""Conversations about videos: both layouts, as messages that a chat template of transformers renders."""

import json

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from internvideo_hf.data.instructions import Conversation, Turn, load_instructions, messages_of, read_instructions
from internvideo_hf.data.records import ManifestError

VIDEOCHAT = {
    "video": "053851_053900/1066674784.mp4",
    "QA": [
        {"i": "Look closely.", "q": "What does he do?", "a": "He runs."},
        {"i": "Look closely.", "q": "Why?", "a": "A dog follows him."},
    ],
}
LLAVA = {
    "id": 3,
    "video": "a.mp4",
    "conversations": [
        {"from": "system", "value": "You are kind."},
        {"from": "human", "value": "<video>\nDescribe it."},
        {"from": "gpt", "value": "A dog."},
    ],
}
# In the manner of Qwen2-VL.
TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{% for c in m['content'] %}{% if c['type'] == 'video' or 'video' in c %}"
    "[V]{% elif 'text' in c %}{{ c['text'] }}{% endif %}{% endfor %}|{% endfor %}"
)


def write(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_videochat_gives_roles_turns_and_paths(tmp_path):
    path = write(tmp_path / "v.json", [VIDEOCHAT, {"video": "b.mp4", "QA": [{"q": "", "a": "A cat sleeps."}]}])
    first, second = read_instructions(path, "videos", check_files=False)
    assert first == Conversation(
        "videos/053851_053900/1066674784.mp4",
        "video",
        (
            Turn("user", "Look closely.\nWhat does he do?"),
            Turn("assistant", "He runs."),
            Turn("user", "Why?"),
            Turn("assistant", "A dog follows him."),
        ),
    )
    assert messages_of(first)[0] == {
        "role": "user",
        "content": [
            {"type": "video", "path": "videos/053851_053900/1066674784.mp4"},
            {"type": "text", "text": "Look closely.\nWhat does he do?"},
        ],
    }
    assert [message["role"] for message in messages_of(first)] == ["user", "assistant"] * 2
    assert messages_of(second)[0]["content"] == [{"type": "video", "path": "videos/b.mp4"}]


def test_messages_are_rendered_by_a_chat_template_also_from_a_dataset(tmp_path):
    path = write(tmp_path / "l.json", [LLAVA, VIDEOCHAT])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"?": 0}, "?")), chat_template=TEMPLATE)
    data = load_instructions(path, check_files=False)
    for row, conversation in zip(data, read_instructions(path, check_files=False), strict=True):
        assert messages_of(row) == messages_of(conversation)
    assert tokenizer.apply_chat_template(messages_of(data[0]), tokenize=False) == (
        "<system>You are kind.|<user>[V]Describe it.|<assistant>A dog.|"
    )


def test_images_addresses_segments_and_no_video(tmp_path):
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    rows = [
        {"image": "a.png", "conversations": turns},
        {"video": "https://example.org/a.mp4", "conversations": turns, "start": 1, "end": "00:00:02.5"},
        {"conversations": turns},
    ]
    image, address, none = read_instructions(write(tmp_path / "r.json", rows), check_files=False)
    assert messages_of(image)[0]["content"][0] == {"type": "image", "path": str(tmp_path / "a.png")}
    assert messages_of(address)[0]["content"][0] == {"type": "video", "url": "https://example.org/a.mp4"}
    assert (address.start, address.end) == (1, 2.5)
    assert messages_of(none)[0]["content"] == [{"type": "text", "text": "Hi"}]


def test_files_that_are_not_there_are_refused_or_left_out(tmp_path):
    path = write(tmp_path / "l.json", [LLAVA, {**LLAVA, "video": "b.mp4"}])
    (tmp_path / "b.mp4").touch()
    with pytest.raises(ManifestError, match=r"record 1: there is no .*a\.mp4"):
        list(read_instructions(path))
    assert [row["video"] for row in load_instructions(path, skip_missing=True)] == [str(tmp_path / "b.mp4")]
    with pytest.raises(ManifestError, match="no conversation is left"):
        load_instructions(path, tmp_path / "nowhere", skip_missing=True)


@pytest.mark.parametrize(
    ("record", "cause"),
    [
        ({"video": "a.mp4"}, "neither QA nor conversations, but video"),
        ({"QA": []}, "expected a list of objects"),
        ({"QA": [{"q": "Why?", "a": ""}]}, "turn 2, of the assistant, is empty"),
        ({"QA": [{"q": "", "a": "So."}]}, "turn 1, of the user, is empty"),
        ({"QA": [{"q": 3, "a": "So."}]}, "q is 3, expected text"),
        ({"conversations": [{"from": "robot", "value": "x"}]}, "from: got 'robot', expected one of human"),
        ({"conversations": [{"from": "human", "value": "x"}]}, "the roles are user"),
        ({"conversations": [{"from": "system", "value": "x"}]}, "the roles are system"),
        ({**LLAVA, "video": ["a", "b"]}, "expected a path"),
        ({**LLAVA, "start": 2, "end": 1}, "from 2.0 to 1.0"),
    ],
)
def test_what_is_no_conversation_is_named_with_its_place(record, cause, tmp_path):
    with pytest.raises(ManifestError, match=f"record 1: .*{cause}"):
        list(read_instructions(write(tmp_path / "r.json", [record]), check_files=False))
