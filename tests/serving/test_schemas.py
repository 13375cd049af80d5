"""What requests may hold."""

import pytest

pydantic = pytest.importorskip("pydantic", reason="the extra serve is not installed")

from internvideo_hf.serving import schemas  # noqa: E402

VIDEO = {"type": "video_url", "video_url": {"url": "https://a.org/b.mp4"}}


def test_inputs_keep_their_order_and_are_named_by_place():
    request = schemas.EmbeddingsRequest.model_validate({"input": ["a", VIDEO, {"type": "text", "text": "b"}]})
    parts = schemas.parts_of(request)
    assert [name for name, _ in parts] == ["input[0]", "input[1]", "input[2]"]
    assert parts[0][1] == "a" and parts[1][1].video_url.url == "https://a.org/b.mp4" and parts[2][1].text == "b"
    assert schemas.parts_of(schemas.EmbeddingsRequest(input="a")) == [("input", "a")]
    assert schemas.parts_of(schemas.EmbeddingsRequest()) == []


def test_of_messages_the_users_parts_are_taken():
    messages = [
        {"role": "system", "content": "Represent the input."},
        {"role": "user", "content": [VIDEO]},
        {"role": "assistant", "content": ""},
    ]
    ((name, part),) = schemas.parts_of(schemas.EmbeddingsRequest.model_validate({"messages": messages}))
    assert name == "messages[1]" and part.video_url.url == "https://a.org/b.mp4"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (schemas.EmbeddingsRequest, {"input": []}),
        (schemas.EmbeddingsRequest, {"input": [[1, 2]]}),
        (schemas.EmbeddingsRequest, {"input": "a", "temperature": 1}),
        (schemas.EmbeddingsRequest, {"input": "a" * 20_000}),
        (schemas.EmbeddingsRequest, {"input": {"type": "audio_url", "audio_url": {"url": "a"}}}),
        (schemas.EmbeddingsRequest, {"input": "a", "encoding_format": "int8"}),
        (schemas.ClassifyRequest, {"input": "a text"}),
        (schemas.ClassifyRequest, {"input": VIDEO, "lables": ["a"]}),
        (schemas.ClassifyRequest, {"input": VIDEO, "labels": []}),
        (schemas.ClassifyRequest, {"input": VIDEO, "top_k": 0}),
        (schemas.SearchRequest, {"query": "a", "top_k": 100_000}),
        (schemas.CaptionRequest, {"input": VIDEO, "beams": 1000}),
        (schemas.LocalizeRequest, {"input": VIDEO, "threshold": 2}),
    ],
)
def test_anything_else_is_refused(kind, body):
    with pytest.raises(pydantic.ValidationError):
        kind.model_validate(body)
