"""What requests and responses hold: OpenAI's embeddings with the content parts of vLLM, and likewise for the rest."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_MOST_TEXTS = 2048
_MOST_LABELS = 2000
_LONGEST = 10_000  # characters of a text; tokenizers take fewer


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Address(_Strict):
    """Where a video or an image is."""

    url: str = Field(description="http(s) address, data:video/mp4;base64,..., or file:///PATH of an allowed folder.")
    detail: str | None = Field(None, description="OpenAI's; without effect.")


class TextPart(_Strict):
    """A text."""

    type: Literal["text"]
    text: str = Field(max_length=_LONGEST)


class VideoPart(_Strict):
    """A video."""

    type: Literal["video_url"]
    video_url: Address


class ImagePart(_Strict):
    """An image, which is a video of one frame."""

    type: Literal["image_url"]
    image_url: Address


Text = Annotated[str, Field(max_length=_LONGEST)]
Part = Annotated[TextPart | VideoPart | ImagePart, Field(discriminator="type")]
Visual = Annotated[VideoPart | ImagePart, Field(discriminator="type")]


class Message(_Strict):
    """A message of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]
    name: str | None = None


class _Request(_Strict):
    model: str | None = Field(None, description="Name of the model, as /v1/models has it.")
    user: str | None = Field(None, description="OpenAI's; without effect.")


class EmbeddingsRequest(_Request):
    """Texts, videos and images to embed in one space.

    Give `input`, where each element gets an embedding of its own, or `messages`, where the one content part of the
    user's message gets one. Messages of other roles are instructions, which these models take none of.
    """

    input: Text | Part | Annotated[list[Text | Part], Field(min_length=1, max_length=_MOST_TEXTS)] | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=64)] | None = None
    encoding_format: Literal["float", "base64"] = Field("float", description="base64: of little-endian float32.")
    dimensions: int | None = Field(None, description="Length of an embedding; none but the model's own is taken.")


class _Videos(_Request):
    input: Visual | Annotated[list[Visual], Field(min_length=1)] | None = Field(
        None, description="One video or image, or a list; left out where files are uploaded."
    )


class ClassifyRequest(_Videos):
    """Videos to classify, by the classes of a classifier or by the given labels."""

    labels: Annotated[list[Text], Field(min_length=1, max_length=_MOST_LABELS)] | None = Field(
        None, description="Labels to choose from, for a model of video and text; a classifier has its own."
    )
    template: str | None = Field(
        None, max_length=_LONGEST, description='The sentence around a label, "A video of {}." by default.'
    )
    top_k: int = Field(5, ge=1, le=_MOST_LABELS, description="Labels to return, the best first.")


class SearchRequest(_Request):
    """A search in the index, by a text, a video or an image."""

    query: Text | Part | None = Field(
        None, description="A text, or a content part; left out where a file is uploaded."
    )
    top_k: int = Field(5, ge=1, le=1000, description="Hits to return.")
    per_video: int | None = Field(None, ge=1, description="The most hits of one video.")
    where: str | None = Field(
        None, max_length=_LONGEST, description="Condition on the clips, such as: camera = 'door' and start > 60"
    )


class CaptionRequest(_Videos):
    """Videos to describe in words."""

    text: str | None = Field(None, max_length=_LONGEST, description="Beginning of the caption.")
    beams: int = Field(3, ge=1, le=16, description="Captions kept in the search for the best.")
    max_new_tokens: int | None = Field(None, ge=1, description="The most tokens to write.")


class LocalizeRequest(_Videos):
    """Videos to find actions in, with their begin and end."""

    top_k: int = Field(20, ge=1, description="Actions to return, the best first.")
    threshold: float = Field(0.1, ge=0, le=1, description="Least score of an action.")


class Embedding(BaseModel):
    """The embedding of one input."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str = Field(description="Of length 1.")


class Usage(BaseModel):
    """Tokens of the texts; videos have none."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(BaseModel):
    """Embeddings in the order of the inputs."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage


class Label(BaseModel):
    """A label with its score."""

    label: str
    score: float = Field(description="Probability, 0-1.")
    similarity: float | None = Field(None, description="Mean cosine, of given labels.")


class Classification(BaseModel):
    """The best labels of one video."""

    index: int
    labels: list[Label]


class ClassifyResponse(BaseModel):
    """Labels in the order of the videos."""

    object: Literal["list"] = "list"
    data: list[Classification]
    model: str


class Hit(BaseModel):
    """A clip that a search has found; see `internvideo search` for its scores."""

    video: str
    start: float | None = Field(description="Seconds.")
    end: float | None = Field(description="Seconds.")
    similarity: float
    probability: float
    z: float | None
    share: float | None
    chance: float | None
    matches: bool | None


class SearchResponse(BaseModel):
    """Hits, the best first."""

    object: Literal["list"] = "list"
    data: list[Hit]
    clips: int = Field(description="Clips that were searched.")
    matches: bool | None = Field(description="Whether any hit is a match; null for queries by video.")
    model: str


class Caption(BaseModel):
    """A sentence about one video."""

    index: int
    text: str


class CaptionResponse(BaseModel):
    """Captions in the order of the videos."""

    object: Literal["list"] = "list"
    data: list[Caption]
    model: str


class Segment(BaseModel):
    """An action."""

    label: str
    score: float
    start: float = Field(description="Seconds.")
    end: float = Field(description="Seconds.")


class Localization(BaseModel):
    """The actions of one video, the best first."""

    index: int
    duration: float | None = Field(description="Seconds.")
    segments: list[Segment]
    gaps: list[tuple[float, float]] = Field(description="Damaged stretches, of which nothing is known.")


class LocalizeResponse(BaseModel):
    """Actions in the order of the videos."""

    object: Literal["list"] = "list"
    data: list[Localization]
    model: str


class Model(BaseModel):
    """The model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "internvideo_hf"
    abilities: list[str] = Field(description="Endpoints below /v1 that it answers.")


class Models(BaseModel):
    """The models that are served: one."""

    object: Literal["list"] = "list"
    data: list[Model]


class ErrorDetails(BaseModel):
    """What was refused, and why."""

    message: str
    type: str
    param: str | None
    code: str


class Error(BaseModel):
    """A refusal, in the shape of OpenAI's."""

    error: ErrorDetails


def parts_of(request: Any) -> list[tuple[str, Any]]:
    """Return what a request gives to embed, with the name of its field.

    Args:
        request: an `EmbeddingsRequest` with `input` or `messages`.
    """
    if request.messages is not None:
        found: list[tuple[str, Any]] = []
        for place, message in enumerate(request.messages):
            if message.role == "user":
                content = message.content if isinstance(message.content, list) else [message.content]
                found += [(f"messages[{place}]", part) for part in content]
        return found
    return listed("input", request.input)


def listed(name: str, value: Any) -> list[tuple[str, Any]]:
    """Return the elements of a field with their names.

    Args:
        name: of the field.
        value: one element, a list of them, or None.
    """
    if value is None:
        return []
    if isinstance(value, list):
        return [(f"{name}[{place}]", element) for place, element in enumerate(value)]
    return [(name, value)]
