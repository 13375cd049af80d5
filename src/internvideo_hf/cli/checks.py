"""Checks of an installation. Every check runs the feature itself, since an import proves little."""

import importlib
import importlib.util
import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

# Package -> the extra that installs it.
EXTRAS = {
    "accelerate": "train",
    "datasets": "train",
    "matplotlib": "train",
    "peft": "train",
    "deepspeed": "deepspeed",
    "faiss": "search",
    "gradio": "demo",
    "lancedb": "lance",
    "pgvector": "postgres",
    "psycopg": "postgres",
    "scenedetect": "curation",
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
    "torchao": "int8",
    "openvino": "openvino",
    "nncf": "openvino",
    "pycocotools": "detection",
    "scipy": "open-set",
    "sklearn": "open-set",
    "mteb": "mteb",
    "sentence_transformers": "mteb",
    "fastapi": "serve",
    "python_multipart": "serve",
    "prometheus_client": "serve",
    "uvicorn": "serve",
}


@dataclass(frozen=True)
class Check:
    """The outcome of one check.

    Attributes:
        name: the feature.
        works: whether it works.
        detail: a version, or the error, in one line.
        needed: whether the core of the package needs it.
    """

    name: str
    works: bool
    detail: str
    needed: bool = False


class Absent(Exception):
    """An optional dependency is not installed."""


def run_checks() -> list[Check]:
    """Run all checks; it takes some seconds."""
    checks = [
        _check("Python", platform.python_version, needed=True),
        _check("torch", _torch, needed=True),
        _check("torchvision", partial(_versioned, "torchvision"), needed=True),
        _check("transformers", partial(_versioned, "transformers"), needed=True),
        _check("Auto classes", _auto_classes, needed=True),
    ]
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        writing = _check("clip to decode", partial(_write_clip, clip), needed=True)
        checks += [writing] if not writing.works else []
        checks += [
            _check(f"decoder {backend}", partial(_decode, clip, backend), needed=backend == "pyav")
            for backend in ("pyav", "torchcodec", "decord")
        ]
    checks += [
        _check(f"attention {kernel}", partial(_attention, kernel), needed=kernel in ("eager", "sdpa"))
        for kernel in ("eager", "sdpa", "flash_attention_2")
    ]
    return checks + [_check(f"extra [{extra}] {name}", partial(_extra, name)) for name, extra in EXTRAS.items()]


def table(checks: list[Check]) -> str:
    """Format checks as a table, one line each."""
    width = max(len(check.name) for check in checks)
    return "\n".join(f"{check.name:<{width}}  {_verdict(check):<6}  {check.detail}" for check in checks)


def _verdict(check: Check) -> str:
    if check.works:
        return "works"
    return "BROKEN" if check.needed else "-"


def _check(name: str, attempt: Callable[[], str], needed: bool = False) -> Check:
    try:
        return Check(name, True, attempt(), needed)
    except Absent as absence:
        return Check(name, False, str(absence), needed)
    # Whatever a broken installation raises is the result of the check.
    except Exception as error:  # noqa: BLE001
        lines = str(error).strip().splitlines()
        return Check(name, False, f"{type(error).__name__}: {lines[0] if lines else ''}", needed)


def _versioned(package: str) -> str:
    importlib.import_module(package)
    return version(package)


def _torch() -> str:
    import torch

    from internvideo_hf.utils.devices import default_device

    device = default_device()
    torch.ones(2, 2, device=device).matmul(torch.ones(2, 2, device=device))
    if device.type == "cpu":
        return f"{torch.__version__}, CPU with {torch.get_num_threads()} threads"
    name = torch.cuda.get_device_name() if device.type == "cuda" else device.type
    return f"{torch.__version__}, {torch.accelerator.device_count()} x {name}"


def _auto_classes() -> str:
    from transformers import AutoConfig

    import internvideo_hf  # noqa: F401  (its import registers)
    from internvideo_hf.auto import FAMILIES

    for model_type in FAMILIES:
        AutoConfig.for_model(model_type)
    return ", ".join(FAMILIES)


def _write_clip(path: Path) -> str:
    import av
    import numpy as np

    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for brightness in range(0, 200, 20):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), brightness, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return "written"


def _decode(clip: Path, backend: str) -> str:
    from internvideo_hf.video import VideoReader

    if importlib.util.find_spec({"pyav": "av"}.get(backend, backend)) is None:
        raise Absent("not installed")
    with VideoReader(clip, backend=backend) as reader:
        dark, bright = reader.read([0, reader.num_frames - 1]).reshape(2, -1).mean(axis=1)
    if not dark < 20 < 160 < bright:
        raise RuntimeError(f"wrong frames: brightness {dark:.0f} and {bright:.0f}, expected 0 and 180")
    return version({"pyav": "av"}.get(backend, backend))


def _attention(kernel: str) -> str:
    import torch
    from transformers.utils import is_flash_attn_2_available

    from internvideo_hf import UniFormerV2Config, UniFormerV2Model
    from internvideo_hf.utils.devices import default_device

    if kernel == "flash_attention_2" and not is_flash_attn_2_available():
        raise Absent("flash-attn is not installed, or there is no accelerator")
    device = default_device()
    config = UniFormerV2Config(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_global_attention_heads=2,
        global_layers=[0],
        image_size=16,
        patch_size=8,
        attn_implementation=kernel,
    )
    dtype = torch.bfloat16 if kernel == "flash_attention_2" else torch.float32
    model = UniFormerV2Model(config).to(device, dtype).eval()
    with torch.no_grad():
        model(torch.zeros(1, 2, 3, 16, 16, device=device, dtype=dtype))
    return f"ran on {device.type}"


def _extra(package: str) -> str:
    if importlib.util.find_spec(package) is None:
        raise Absent("not installed")
    importlib.import_module(package)
    distributions = {"faiss": "faiss-cpu", "sentence_transformers": "sentence-transformers"}
    return version(distributions.get(package, package))
