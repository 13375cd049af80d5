"""The command that serves a model over HTTP: `serve`."""

from pathlib import Path
from typing import Annotated

import typer

from internvideo_hf.cli.completion import model_names
from internvideo_hf.cli.options import (
    MODEL_HELP,
    SAVED,
    BatchSize,
    Device,
    Dtype,
    Quiet,
    parse_device,
    parse_dtype,
    resolve_model,
)
from internvideo_hf.cli.reporting import say, silence_transformers

_MB = 1_000_000


def serve(
    model: Annotated[str, typer.Argument(help=MODEL_HELP, autocompletion=model_names)],
    index: Annotated[
        str | None, typer.Option(help="Index of this model to search in: its folder, or the address of its store.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any that is free.")] = 8000,
    key_file: Annotated[
        Path | None,
        typer.Option(help="File with the key that requests must carry (default: INTERNVIDEO_API_KEY, or none)."),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            help="Host, such as files.local or files.local:9000, whose videos may be fetched though its address is "
            "not public; repeatable."
        ),
    ] = None,
    allow_dir: Annotated[
        list[Path] | None, typer.Option(help="Folder whose videos may be named as file:///PATH; repeatable.")
    ] = None,
    max_mb: Annotated[float, typer.Option(help="Megabytes of a video.")] = 256,
    max_seconds: Annotated[float, typer.Option(help="Seconds of a video.")] = 3600,
    max_frames: Annotated[int, typer.Option(help="Frames of a video.")] = 250_000,
    max_queue: Annotated[int, typer.Option(help="Requests in progress; more are refused (429).")] = 128,
    timeout: Annotated[float, typer.Option(help="Seconds for a request, its wait included (504).")] = 120,
    video_timeout: Annotated[float, typer.Option(help="Seconds to fetch and decode one video.")] = 60,
    max_memory: Annotated[float, typer.Option(help="Gigabytes that decoding one video may take.")] = 4,
    batch_size: BatchSize = 8,
    jobs: Annotated[int | None, typer.Option(min=1, help="Decoding processes (default: one per core).")] = None,
    dtype: Dtype = SAVED,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Serve a model over HTTP: embeddings in OpenAI's shape, classes, search, captions or actions.

    http://HOST:PORT/docs describes the requests and tries them; /health and /metrics (Prometheus) are for machines.
    Videos come as http(s) addresses, data: URLs or uploads. They are decoded in processes of their own: one that
    cannot be read, or that kills or hangs its decoder, is refused (422). Ctrl-C and SIGTERM end the service when the
    requests in progress are answered.

    Needs the extra `serve`. Only this machine reaches it, unless --host says otherwise; it speaks HTTP without TLS.

    Example: internvideo serve internvideo-mm-l14 --index holidays.index

    Example: internvideo serve vit-b-k400 --host 0.0.0.0 --key-file key.txt --allow files.local
    """
    from internvideo_hf.serving import server
    from internvideo_hf.serving.app import create_app
    from internvideo_hf.serving.limits import Access, Limits

    access = Access(tuple(allow or ()), tuple(allow_dir or ()))
    limits = Limits(
        max_bytes=round(max_mb * _MB),
        max_seconds=max_seconds,
        max_frames=max_frames,
        max_queue=max_queue,
        timeout=timeout,
        video_timeout=video_timeout,
        max_memory=round(max_memory * 1000 * _MB),
    )
    key, number_type = server.read_key(key_file), parse_dtype(dtype, device, model)
    taken = server.listen(host, port)
    with taken:
        resolve_model(model)
        silence_transformers()
        from internvideo_hf.serving.models import ServedModel

        where = parse_device(device)
        served = ServedModel.load(model, index=index, device=where, dtype=number_type, batch_size=batch_size)
        options = {"key": key, "names": server.names_of(host, key), "decoders": jobs, "batch_size": batch_size}
        app = create_app(served, limits=limits, access=access, **options)  # type: ignore[arg-type]  # of several types
        if not server.is_local(host) and key is None:
            say("Whoever reaches this port can use the model: there is no key (--key-file).", err=True)

        def tell() -> None:
            if not quiet:
                shown = f"[{host}]" if ":" in host else host
                address = f"http://{shown}:{taken.getsockname()[1]}"
                say(f"{served.name} answers at {address} ({', '.join(served.abilities)}); see {address}/docs.")

        server.run(app, taken, tell, timeout)
