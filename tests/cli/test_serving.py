"""`serve` refuses in one line what it cannot do; tests/serving has the service itself."""

import json
import sys

import pytest
from program import assert_refused, run

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from internvideo_hf.serving.server import KEY_VARIABLE, listen  # noqa: E402


@pytest.fixture(autouse=True)
def _serves_nothing(monkeypatch):
    monkeypatch.setattr("internvideo_hf.serving.server.run", lambda *arguments: pytest.fail("it serves"))
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "No model 'nowhere'"),
        (["demo-mm", "--index", "nowhere"], "nowhere"),
        (["demo-classifier", "--index", "{index}"], "another model"),
        (["demo-mm", "--allow", "http://a.org"], "--allow 'http://a.org': expected a host"),
        (["demo-mm", "--allow-dir", "/no/such/folder"], "--allow-dir /no/such/folder: there is no such folder"),
        (["demo-mm", "--key-file", "/no/such/file"], "--key-file /no/such/file cannot be read"),
        (["demo-mm", "--timeout", "0"], "timeout=0.0: expected a number above 0"),
        (["demo-mm", "--dtype", "int3"], "int3"),
        (["demo-mm", "--device", "nonsense"], "--device nonsense"),
        (["demo-mm", "--host", "192.0.2.1"], "Cannot listen on 192.0.2.1, port 0"),
    ],
)
def test_mistakes_are_refused_in_one_line(arguments, words, drawn):
    arguments = [argument.format(index=drawn[0] / "index") for argument in arguments]
    refused = run("serve", *arguments, "--port", 0)
    assert_refused(refused, words)
    assert refused.stderr.count("\n") == 1


def test_a_model_without_an_endpoint_is_refused(tmp_path):
    content = {"model_type": "vslnet", "architectures": ["VSLNetForTemporalGrounding"]}
    (tmp_path / "config.json").write_text(json.dumps(content))
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert_refused(run("serve", tmp_path, "--port", 0), "cannot be served: it holds a VSLNetForTemporalGrounding")


def test_a_port_in_use_is_refused_before_the_model_is_loaded(monkeypatch):
    monkeypatch.setattr(
        "internvideo_hf.serving.models.ServedModel.load", lambda *arguments, **options: pytest.fail("it loads")
    )
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert_refused(run("serve", "demo-mm", "--port", port), f"Cannot listen on 127.0.0.1, port {port}")


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    for module in [name for name in sys.modules if name.startswith("internvideo_hf.serving")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert_refused(run("serve", "demo-mm"), "fastapi is not installed: pip install 'internvideo-hf[serve]'.")
