"""The HTTP service as a FastAPI application."""

import asyncio
import base64
import json
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import numpy as np
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import HTTPException
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

from internvideo_hf.serving import schemas
from internvideo_hf.serving.errors import RequestError, error_body
from internvideo_hf.serving.examples import EXAMPLES
from internvideo_hf.serving.guard import CLOSED, Guard
from internvideo_hf.serving.limits import Access, Limits
from internvideo_hf.serving.metrics import CONTENT_TYPE, Metrics
from internvideo_hf.serving.models import CAPTION, CLASSIFY, EMBEDDINGS, LOCALIZE, SEARCH, ServedModel
from internvideo_hf.serving.service import Service
from internvideo_hf.serving.sources import LimitError, Source, named, own_file, source_of
from internvideo_hf.utils.files import DiskFullError
from internvideo_hf.utils.names import printable
from internvideo_hf.utils.scratch import scratch_directory
from internvideo_hf.video.errors import VideoDecodeError

Body = TypeVar("Body", bound=BaseModel)
_SMALL = 1 << 17  # bytes
_ELEMENTS = 100_000
"""Elements of a request's JSON: each takes a hundred times its bytes when it is parsed, while all others wait."""

_REQUESTS: dict[str, type[BaseModel]] = {
    EMBEDDINGS: schemas.EmbeddingsRequest,
    CLASSIFY: schemas.ClassifyRequest,
    SEARCH: schemas.SearchRequest,
    CAPTION: schemas.CaptionRequest,
    LOCALIZE: schemas.LocalizeRequest,
}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": schemas.Error, "description": "The request is invalid, or the model cannot do this."},
    401: {"model": schemas.Error, "description": "The key is missing or wrong."},
    413: {"model": schemas.Error, "description": "The request or a video is too large."},
    422: {"model": schemas.Error, "description": "A video cannot be read or fetched."},
    429: {"model": schemas.Error, "description": "Too many requests are in progress."},
    503: {"model": schemas.Error, "description": "No decoder could be started, or the service stops."},
    504: {"model": schemas.Error, "description": "The request took too long."},
}
_ABOUT = """One video model behind HTTP: the requests of OpenAI's `/v1/embeddings` with the content parts of vLLM, and
likewise `/v1/classify`, `/v1/search`, `/v1/caption` and `/v1/localize`; `/v1/models` names what the model can do.

A video is a content part `{"type": "video_url", "video_url": {"url": ...}}`, an image `image_url`: an http(s) address,
or `data:video/mp4;base64,...`. Files are uploaded as `multipart/form-data`, with the fields `file` (once or more) and
`request`, the JSON of the request without `input`: `curl -F file=@clip.mp4 -F 'request={"top_k": 3}' ...`.

Refusals have the shape of OpenAI's errors. A request fails as a whole if one of its videos cannot be read (422)."""


@dataclass
class Call(Generic[Body]):
    """A request that has arrived.

    Args:
        body: its fields.
        uploads: the files that came with it.
        folder: for its files, deleted when it is answered.
        service: what answers it.
    """

    body: Body
    uploads: list[Source]
    folder: "_Folder"
    service: Service

    async def sources(self, elements: Sequence[tuple[str, Any]]) -> list[Source]:
        """Return the videos of content parts, or those that were uploaded.

        Args:
            elements: name and value of each part.

        Raises:
            RequestError: if there is none, or too many, or an address is not taken.
        """
        if elements and self.uploads:
            raise RequestError("Files are uploaded, and there is input as well. Give one of them.", param="input")
        limits, access = self.service.limits, self.service.access
        if max(len(elements), len(self.uploads)) > limits.max_videos:
            raise RequestError(f"At most {limits.max_videos} videos are taken in a request.", param="input")
        if not elements and not self.uploads:
            raise RequestError("There is no video. Give input, or upload a file.", param="input")
        if not elements:
            return self.uploads
        urls = [(name, _url_of(part)) for name, part in elements]
        take = partial(source_of, folder=self.folder.path, access=access, limits=limits)
        return [await _apart(len(url), take, url, name) for name, url in urls]


def create_app(
    model: ServedModel,
    *,
    limits: Limits | None = None,
    access: Access | None = None,
    key: str | None = None,
    names: Sequence[str] | None = None,
    decoders: int | None = None,
    batch_size: int = 8,
) -> FastAPI:
    """Return the service of a model as an ASGI application; its lifespan starts and ends the decoders.

    Args:
        model: what is served.
        limits: of requests; the defaults if None.
        access: what requests may name beside public addresses; nothing if None.
        key: that requests must carry; None for none.
        names: see `Guard`.
        decoders: decoding processes; one per core, at most 8, if None.
        batch_size: the most clips per forward pass; those of one video go together in any case.
    """
    limits, access, metrics = limits or Limits(), access or Access(), Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with ExitStack() as stack:
            app.state.folder = stack.enter_context(scratch_directory("serve"))
            app.state.removing = stack.enter_context(ThreadPoolExecutor(1, "removing"))
            app.state.service = service = Service(model, limits, access, metrics, decoders, batch_size)
            stack.callback(service.stop)
            await service.start()
            yield

    app = FastAPI(title="internvideo serve", description=_ABOUT, lifespan=lifespan, redoc_url=None)
    app.state.model, app.state.metrics = model, metrics
    _add_routes(app)
    _add_errors(app)
    paths = [path for route in app.routes if (path := getattr(route, "path", None))]
    app.add_middleware(Guard, limits=limits, metrics=metrics, key=key, names=names, endpoints=paths)
    app.openapi = _Schema(app, has_key=key is not None)  # type: ignore[method-assign]  # as FastAPI's manual says
    return app


def _call_of(ability: str) -> Callable[..., Any]:
    """Return what FastAPI calls for a request of an ability: it reads the request, and deletes its files after it."""
    kind = _REQUESTS[ability]

    async def read(request: Request) -> AsyncIterator[Call[Any]]:
        service: Service = request.app.state.service
        service.require(ability)
        folder = _Folder(request.app.state.folder, request.app.state.removing)
        try:
            text, uploads = await _content(request, folder, service.limits)
            body = await _apart(len(text), _parse, kind, text)
            if body.model not in (None, service.model.name):
                message = f"There is no model {printable(body.model)!r} here, only {service.model.name}."
                raise RequestError(message, 404, "model_not_found", "model")
            yield Call(body, uploads, folder, service)
        finally:
            folder.remove()

    return read


class _Folder:
    """The folder of a request, made when it is needed.

    Args:
        parent: where it is made.
        removing: removes it: each of many calls of the system would wait for the thread of the model to give way.
    """

    def __init__(self, parent: Path, removing: ThreadPoolExecutor):
        self._parent, self._removing = parent, removing
        self._made: Path | None = None

    @property
    def path(self) -> Path:
        if self._made is None:
            self._made = Path(tempfile.mkdtemp(dir=self._parent))
        return self._made

    def remove(self) -> None:
        if self._made is not None:
            self._removing.submit(shutil.rmtree, self._made, ignore_errors=True)


async def _apart(size: int, work: Callable[..., Any], *arguments: Any) -> Any:
    """Do some work, in a thread if it is large: other requests would wait for it, and a small one for the thread."""
    return work(*arguments) if size < _SMALL else await asyncio.to_thread(work, *arguments)


async def _content(request: Request, folder: _Folder, limits: Limits) -> tuple[bytes, list[Source]]:
    """Return the JSON of a request, and the files that came with it."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return await request.body(), []
    if kind != "multipart/form-data":
        raise RequestError("Send application/json, or files as multipart/form-data.", 415, "unsupported_media_type")
    uploads: list[Source] = []
    text: str | None = None
    async with request.form(max_files=limits.max_videos, max_fields=1) as form:
        for name, value in form.multi_items():
            if name == "request" and isinstance(value, str):
                text = value
            elif name == "file" and isinstance(value, UploadFile):
                path = own_file(folder.path)
                label = f"file[{len(uploads)}] ({printable(Path(value.filename or '').name[:100])})"
                size = await _apart(value.size or 0, _save, value, path)
                if size > limits.max_bytes:
                    message = f"{label}: it has {size} bytes, and at most {limits.max_bytes} are taken."
                    raise RequestError(message, 413, "too_large", "file")
                uploads.append(Source(str(named(path)), label, str(folder.path)))
            else:
                message = f"The field {printable(name)!r} is unknown. Give file, once or more, and request."
                raise RequestError(message, param=printable(name))
    return (text or "{}").encode(), uploads


def _save(upload: UploadFile, path: Path) -> int:
    with path.open("wb") as file:
        shutil.copyfileobj(upload.file, file)
        return file.tell()


def _parse(kind: type[BaseModel], text: bytes) -> Any:
    if (elements := sum(map(text.count, b",[{"))) > _ELEMENTS:
        message = f"The JSON has about {elements} elements, and at most {_ELEMENTS} are taken."
        raise RequestError(message, 413, "too_large")
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise RequestError(
            f"{printable(place)}: {first['msg']}{more}".removeprefix(": "), param=printable(place) or None
        ) from error


def _url_of(part: Any) -> str:
    address = part.video_url if isinstance(part, schemas.VideoPart) else part.image_url
    return str(address.url)


def _add_routes(app: FastAPI) -> None:
    def work(ability: str, **options: Any) -> Callable[..., Any]:
        extra = {"requestBody": _body(ability)}
        return app.post(f"/v1/{ability}", responses=_REFUSALS, openapi_extra=extra, **options)

    @work(EMBEDDINGS, response_model=schemas.EmbeddingsResponse)
    async def embeddings(
        call: Annotated[Call[schemas.EmbeddingsRequest], Depends(_call_of(EMBEDDINGS))],
    ) -> Any:
        """Embed texts, videos and images in one space, as unit vectors."""
        body, service = call.body, call.service
        if body.input is not None and body.messages is not None:
            raise RequestError("Give input or messages, not both.", param="input")
        parts = schemas.parts_of(body)
        if body.messages is not None and len(parts) != 1:
            raise RequestError(
                f"The user's messages have {len(parts)} content parts, and one is embedded. Give several as input.",
                param="messages",
            )
        texts = {place: _text_of(part) for place, (_, part) in enumerate(parts) if _text_of(part) is not None}
        visual = [(name, part) for place, (name, part) in enumerate(parts) if place not in texts]
        if visual or not texts or call.uploads:
            sources = await call.sources(visual)
        else:
            sources = []
        words = [str(text) for text in texts.values()]
        of_texts, of_videos = await asyncio.gather(service.embed_texts(words), service.embed_videos(sources))
        rest, of_text = iter(of_videos), dict(zip(texts, of_texts, strict=True))
        places = range(len(of_texts) + len(of_videos))
        vectors = [of_text[place] if place in of_text else next(rest) for place in places]
        if body.dimensions not in (None, len(vectors[0])):
            message = f"dimensions={body.dimensions}: embeddings of {service.model.name} have {len(vectors[0])}."
            raise RequestError(message, param="dimensions")
        tokens = service.model.count_tokens(words)
        return {
            "data": [
                {"index": place, "embedding": _written(vector.numpy(), body.encoding_format)}
                for place, vector in enumerate(vectors)
            ],
            "model": service.model.name,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    @work(CLASSIFY, response_model=schemas.ClassifyResponse, response_model_exclude_none=True)
    async def classify(call: Annotated[Call[schemas.ClassifyRequest], Depends(_call_of(CLASSIFY))]) -> Any:
        """Classify videos, by the model's own classes or by given labels."""
        body, service = call.body, call.service
        options = service.check_classify(body.labels, body.template, body.top_k)
        sources = await call.sources(schemas.listed("input", body.input))
        found = await service.classify(sources, options)
        data = [{"index": place, "labels": labels} for place, labels in enumerate(found)]
        return {"data": data, "model": service.model.name}

    @work(SEARCH, response_model=schemas.SearchResponse)
    async def search(call: Annotated[Call[schemas.SearchRequest], Depends(_call_of(SEARCH))]) -> Any:
        """Find clips in the index by a text, a video or an image."""
        body, service = call.body, call.service
        text = None if body.query is None else _text_of(body.query)
        source = None
        if text is None or call.uploads:
            parts = [] if body.query is None else [("query", body.query)]
            source, *others = await call.sources(parts)
            if others:
                raise RequestError(f"One file is searched for, and {len(others) + 1} came.", param="file")
        options = {"top_k": body.top_k, "per_video": body.per_video, "where": body.where}
        hits = (await service.search(text, source, options)).to_dict()
        return {"data": hits["hits"], "clips": hits["clips"], "matches": hits["matches"], "model": service.model.name}

    @work(CAPTION, response_model=schemas.CaptionResponse)
    async def caption(call: Annotated[Call[schemas.CaptionRequest], Depends(_call_of(CAPTION))]) -> Any:
        """Describe videos in words."""
        body, service = call.body, call.service
        options: dict[str, Any] = {"num_beams": body.beams}
        options |= {} if body.text is None else {"text": body.text}
        options |= {} if body.max_new_tokens is None else {"max_new_tokens": body.max_new_tokens}
        sources = await call.sources(schemas.listed("input", body.input))
        found = await service.caption(sources, options)
        data = [{"index": place, "text": answers[0]["generated_text"]} for place, answers in enumerate(found)]
        return {"data": data, "model": service.model.name}

    @work(LOCALIZE, response_model=schemas.LocalizeResponse)
    async def localize(call: Annotated[Call[schemas.LocalizeRequest], Depends(_call_of(LOCALIZE))]) -> Any:
        """Find the actions in videos, with their begin and end."""
        body, service = call.body, call.service
        sources = await call.sources(schemas.listed("input", body.input))
        found = await service.localize(sources, body.top_k, body.threshold)
        return {"data": [{"index": place, **one} for place, one in enumerate(found)], "model": service.model.name}

    @app.get("/v1/models", response_model=schemas.Models)
    async def models() -> Any:
        """Name the model, and what it can do."""
        model: ServedModel = app.state.model
        return {"data": [{"id": model.name, "created": model.created, "abilities": model.abilities}]}

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Say that the service answers."""
        return {"status": "ok"}

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Return figures for Prometheus."""
        return Response(app.state.metrics.text(), media_type=CONTENT_TYPE)


def _text_of(part: Any) -> str | None:
    if isinstance(part, str):
        return part
    return part.text if isinstance(part, schemas.TextPart) else None


def _written(vector: np.ndarray[Any, Any], encoding: str) -> list[float] | str:
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    numbers: list[float] = vector.tolist()
    return numbers


def _add_errors(app: FastAPI) -> None:
    def respond(message: str, status: int, code: str, param: str | None = None) -> JSONResponse:
        return JSONResponse(error_body(message, status, code, param), status)

    @app.exception_handler(RequestError)
    async def refused(request: Request, error: RequestError) -> JSONResponse:
        return JSONResponse(error.to_dict(), error.status, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=CLOSED)

    @app.exception_handler(VideoDecodeError)
    async def unreadable(request: Request, error: VideoDecodeError) -> JSONResponse:
        # The advice of others is about options of commands and of Python.
        advice = f" {error.advice}" if isinstance(error, LimitError) else ""
        text = printable(error.source if error.cause is None else f"{error.source}: {error.cause}.{advice}")
        return respond(text, 422, "unreadable_video", error.source.partition(" ")[0])

    @app.exception_handler(ValueError)
    @app.exception_handler(TypeError)
    async def invalid(request: Request, error: Exception) -> JSONResponse:
        # The fields of requests have the names of the options of commands.
        said = str(getattr(error, "in_shell", error))
        text = re.sub(r"--([a-z][a-z-]*)", lambda option: option[1].replace("-", "_"), said)
        return respond(printable(text), 400, "invalid_request")

    @app.exception_handler(DiskFullError)
    async def full(request: Request, error: DiskFullError) -> JSONResponse:
        return respond("The disk of the service is full.", 507, "disk_full")

    @app.exception_handler(StarletteHTTPException)
    async def unknown(request: Request, error: HTTPException) -> JSONResponse:
        codes = {404: "not_found", 405: "method_not_allowed"}
        return respond(str(error.detail), error.status_code, codes.get(error.status_code, "invalid_request"))

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return respond("The service has failed; its log says why.", 500, "server_error")


def _body(ability: str) -> dict[str, Any]:
    """Return the description of a request's body: JSON, or files with JSON beside them."""
    schema = {"$ref": f"#/components/schemas/{_REQUESTS[ability].__name__}"}
    examples = {name: {"summary": name, "value": value} for name, value in EXAMPLES[ability].items()}
    files = {"type": "array", "items": {"type": "string", "format": "binary"}}
    request = {"type": "string", "contentMediaType": "application/json", "contentSchema": schema}
    form = {"type": "object", "required": ["file"], "properties": {"file": files, "request": request}}
    return {
        "required": True,
        "content": {
            "application/json": {"schema": schema, "examples": examples},
            "multipart/form-data": {"schema": form},
        },
    }


class _Schema:
    """The OpenAPI description with the bodies of requests, which FastAPI does not see."""

    def __init__(self, app: FastAPI, has_key: bool):
        self._app, self._has_key = app, has_key

    def __call__(self) -> dict[str, Any]:
        app = self._app
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, description=_ABOUT, routes=app.routes)
            inputs: list[Any] = [(model, "validation") for model in _REQUESTS.values()]
            _, definitions = models_json_schema(inputs, ref_template="#/components/schemas/{model}")
            components = schema.setdefault("components", {})
            components["schemas"] = components.get("schemas", {}) | definitions["$defs"]
            if self._has_key:
                components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
                schema["security"] = [{"key": []}]
            app.openapi_schema = json.loads(json.dumps(schema))
        return app.openapi_schema
