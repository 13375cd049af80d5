"""The service on a real port: answers, refusals, bad videos."""

import base64
import json
import socket
import time
from dataclasses import replace

import httpx
import numpy as np
import pytest
import torch
from servers import serve_folder
from video.clips import write_video

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from serving.poison import poisoned  # noqa: E402
from serving.running import running  # noqa: E402

from internvideo_hf.data.executors.processes import Child, NoProcessError  # noqa: E402
from internvideo_hf.serving.app import create_app  # noqa: E402
from internvideo_hf.serving.examples import EXAMPLES, IMAGE, VIDEO  # noqa: E402
from internvideo_hf.serving.limits import Access, Limits  # noqa: E402
from internvideo_hf.serving.models import ServedModel  # noqa: E402

LABELS = ["moves to the right", "grows"]


@pytest.fixture(scope="module")
def videos(drawn):
    return drawn[0] / "test"


@pytest.fixture(scope="module")
def files(videos):
    with serve_folder(videos) as address:
        yield address


@pytest.fixture(scope="module")
def served(drawn):
    return ServedModel.load("demo-mm", index=drawn[0] / "index", device="cpu")


@pytest.fixture(scope="module")
def app(served, files, videos):
    access = Access((files.removeprefix("http://"),), (videos,))
    limits = Limits(max_bytes=1_000_000, max_seconds=5, video_timeout=10, max_videos=4)
    return create_app(served, limits=limits, access=access, decoders=1)


@pytest.fixture(scope="module")
def client(app):
    plain = ServedModel.reading
    patch = pytest.MonkeyPatch()
    patch.setattr(ServedModel, "reading", lambda self, ability: poisoned(plain(self, ability)))
    with running(app) as address, httpx.Client(base_url=address, timeout=110) as client:
        yield client
    patch.undo()
    assert not app.state.folder.exists(), "nothing is left"


def clip(videos, number: int = 0) -> str:
    return sorted(videos.glob("*.mp4"))[number]


def part(url: object) -> dict:
    return {"type": "video_url", "video_url": {"url": str(url)}}


def embed(client, *inputs: object) -> torch.Tensor:
    answer = client.post("/v1/embeddings", json={"input": list(inputs)})
    assert answer.status_code == 200, answer.text
    return torch.tensor([one["embedding"] for one in answer.json()["data"]])


def assert_refused(answer: httpx.Response, status: int, code: str, words: str) -> dict:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == code and words in error["message"], error
    return error


def test_every_example_of_the_description_runs(client):
    description = client.get("/openapi.json").json()
    for ability in ("embeddings", "classify", "search"):
        body = description["paths"][f"/v1/{ability}"]["post"]["requestBody"]["content"]["application/json"]
        assert body["schema"] == {"$ref": f"#/components/schemas/{ability.capitalize()}Request"}
        assert body["schema"]["$ref"].rpartition("/")[2] in description["components"]["schemas"]
        examples = {name: example["value"] for name, example in body["examples"].items()}
        assert examples == EXAMPLES[ability]
        for name, example in examples.items():
            answer = client.post(f"/v1/{ability}", json=example)
            if "own labels" in name:
                assert_refused(answer, 400, "invalid_request", "has no labels of its own")
            else:
                assert answer.status_code == 200 and answer.json()["data"], answer.text
    assert "swagger" in client.get("/docs").text


def test_embeddings_are_those_of_the_model_however_a_video_comes(client, served, videos, files):
    path = clip(videos)
    expected = served.embedder.embed_video(str(path))[0]
    content = base64.b64encode(path.read_bytes()).decode()
    text = "a red heart"
    found = embed(
        client, part(path.as_uri()), text, part(f"{files}/{path.name}"), part(f"data:video/mp4;base64,{content}")
    )
    for row in (0, 2, 3):
        torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1], served.embedder.embed_texts([text])[0], atol=1e-5, rtol=1e-5)
    answer = client.post("/v1/embeddings", files={"file": path.open("rb")}, data={"request": '{"dimensions": 64}'})
    if answer.status_code == 400:  # the length is the model's
        assert f"have {len(expected)}" in answer.text
        answer = client.post("/v1/embeddings", files={"file": path.open("rb")})
    torch.testing.assert_close(torch.tensor(answer.json()["data"][0]["embedding"]), expected, atol=1e-5, rtol=1e-5)
    messages = [{"role": "system", "content": "Embed."}, {"role": "user", "content": [part(path.as_uri())]}]
    answer = client.post("/v1/embeddings", json={"messages": messages, "encoding_format": "base64"}).json()
    vector = np.frombuffer(base64.b64decode(answer["data"][0]["embedding"]), "<f4")
    assert np.allclose(vector, expected, atol=1e-5) and answer["usage"]["total_tokens"] == 0
    usage = client.post("/v1/embeddings", json={"input": text, "model": "demo-mm", "user": "me"}).json()["usage"]
    assert usage == {"prompt_tokens": 5, "total_tokens": 5}


def test_labels_and_hits_are_those_of_the_commands(client, drawn, served, videos):
    folder, captions = drawn
    path = clip(videos)
    answer = client.post("/v1/classify", json={"input": part(path.as_uri()), "labels": LABELS, "template": "it {}"})
    expected = served.zero_shot(str(path), candidate_labels=LABELS, hypothesis_template="it {}")
    (found,) = answer.json()["data"]
    assert [entry["label"] for entry in found["labels"]] == [entry["label"] for entry in expected]
    assert found["labels"][0]["score"] == pytest.approx(expected[0]["score"], abs=1e-5)
    upload = {"files": {"file": path.open("rb")}, "data": {"request": json.dumps({"labels": LABELS, "top_k": 1})}}
    assert len(client.post("/v1/classify", **upload).json()["data"][0]["labels"]) == 1
    answer = client.post("/v1/search", json={"query": captions[0], "top_k": 2, "where": "start >= 1"}).json()
    hits = served.index.search(captions[0], top_k=2, where="start >= 1")
    assert [(hit["video"], hit["start"]) for hit in answer["data"]] == [(hit.video, hit.start) for hit in hits]
    assert answer["matches"] == hits.matches and answer["clips"] == hits.clips
    answer = client.post("/v1/search", files={"file": path.open("rb")}).json()
    assert answer["data"][0]["video"] == str(path) and answer["matches"] is None


@pytest.mark.parametrize(
    ("ability", "body", "code", "words"),
    [
        ("embeddings", {}, "invalid_request", "There is no video"),
        ("embeddings", {"input": " "}, "invalid_request", "The text is empty"),
        ("embeddings", {"input": "red " * 200}, "invalid_request", "at most 32. Shorten it."),
        ("embeddings", {"input": "a", "dimensions": 7}, "invalid_request", "dimensions=7: embeddings of demo-mm have"),
        ("embeddings", {"input": "a", "lenght": 7}, "invalid_request", "lenght: Extra inputs"),
        ("embeddings", {"input": "a", "messages": [{"role": "user", "content": "a"}]}, "invalid_request", "not both"),
        ("embeddings", {"messages": [{"role": "system", "content": "a"}]}, "invalid_request", "have 0 content parts"),
        ("embeddings", {"input": [VIDEO] * 5}, "invalid_request", "At most 4 videos"),
        ("embeddings", {"input": part("s3://bucket/a.mp4")}, "address_refused", "s3:// addresses are not taken"),
        ("embeddings", {"input": part("file:///etc/passwd")}, "address_refused", "no such file in the folders"),
        ("embeddings", {"input": part("/etc/passwd")}, "address_refused", "no address that is taken"),
        ("classify", {"input": VIDEO}, "invalid_request", "Give some in labels."),
        ("classify", {"input": VIDEO, "labels": ["a", "a"]}, "invalid_request", "twice"),
        ("classify", {"input": VIDEO, "labels": ["a"], "template": "no"}, "invalid_request", "must hold {} once"),
        ("search", {"query": "a", "where": "camra = 1"}, "invalid_request", "camra"),
        ("search", {}, "invalid_request", "There is no video"),
        ("caption", {"input": VIDEO}, "model_lacks_ability", "demo-mm, a model of video and text, has no caption"),
        ("localize", {"input": VIDEO}, "model_lacks_ability", "it has embeddings, classify, search"),
    ],
)
def test_mistakes_are_refused_in_one_line(client, ability, body, code, words):
    error = assert_refused(client.post(f"/v1/{ability}", json=body), 400, code, words)
    assert "\n" not in error["message"] and error["type"] == "invalid_request_error"


def test_other_models_paths_methods_and_types_are_refused(client):
    answer = client.post("/v1/embeddings", json={"input": "a", "model": "gpt"})
    assert_refused(answer, 404, "model_not_found", "There is no model 'gpt' here, only demo-mm.")
    assert_refused(client.get("/v1/chat"), 404, "not_found", "Not Found")
    assert_refused(client.get("/v1/search"), 405, "method_not_allowed", "Method Not Allowed")
    answer = client.post("/v1/search", content=b"query=a", headers={"content-type": "text/plain"})
    assert_refused(answer, 415, "unsupported_media_type", "application/json")
    answer = client.post("/v1/search", content=b"{", headers={"content-type": "application/json"})
    assert_refused(answer, 400, "invalid_request", "Invalid JSON")
    answer = client.post("/v1/search", files={"fil": b"a"})
    assert_refused(answer, 400, "invalid_request", "The field 'fil' is unknown")
    answer = client.post("/v1/search", files={"file": b"a"}, data={"request": "[]"})
    assert_refused(answer, 400, "invalid_request", "Input should be an object")
    answer = client.post("/v1/search", files=[("file", b"a"), ("file", b"b")])
    assert_refused(answer, 400, "invalid_request", "One file is searched for, and 2 came.")
    assert_refused(client.delete("/health"), 405, "method_not_allowed", "Method Not Allowed")


def test_a_service_whose_decoders_do_not_start_says_so_and_goes_on(client, videos, monkeypatch):
    content = clip(videos).read_bytes()

    def fail(*arguments: object) -> None:
        raise NoProcessError("They end.")

    with monkeypatch.context() as patch:
        patch.setattr(Child, "run", fail)
        answer = client.post("/v1/embeddings", files={"file": content})
        assert_refused(answer, 503, "no_decoder", "No decoder could be started. Try again later.")
        assert answer.headers["retry-after"] == "5"
    assert client.post("/v1/embeddings", files={"file": content}).status_code == 200


def test_a_client_loses_no_answer_that_comes_while_it_sends(client):
    address = client.base_url
    with socket.create_connection((address.host, address.port)) as sending:
        head = "POST /v1/embeddings HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000000\r\n\r\n"
        sending.sendall(head.encode())
        sending.sendall(bytes(9_000_000))  # which the service refuses after the head
        with sending.makefile("rb") as answer:
            assert b"413" in answer.readline()
            assert b"too_large" in answer.read()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no video at all", "file[0] (clip.mp4): "),
        (b"", "file[0] (clip.mp4): the file is empty"),
        (b"KILL", "file[0] (clip.mp4): the decoder killed its process, or memory ran out."),
        (b"HANG", "file[0] (clip.mp4): the decoder did not finish within 0.5 seconds"),
    ],
)
def test_a_bad_video_is_its_own_failure(client, app, monkeypatch, content, words):
    if content == b"HANG":
        monkeypatch.setattr(app.state.service, "limits", replace(app.state.service.limits, video_timeout=0.5))
    answer = client.post("/v1/embeddings", files={"file": ("clip.mp4", content)})
    error = assert_refused(answer, 422, "unreadable_video", words)
    assert "/" not in error["message"].replace("(clip.mp4)", "") and error["param"] == "file[0]"
    monkeypatch.undo()
    assert embed(client, VIDEO, IMAGE).shape[0] == 2


def test_a_video_whose_decoder_was_lost_once_is_read_again(client, videos, served):
    answer = client.post("/v1/embeddings", files={"file": ("once.mp4", clip(videos).read_bytes())})
    assert answer.status_code == 200, answer.text
    expected = served.embedder.embed_video(str(clip(videos)))[0]
    assert answer.json()["data"][0]["embedding"] == pytest.approx(expected.tolist(), abs=1e-5)


def test_what_is_too_large_or_too_long_is_refused(client, tmp_path):
    answer = client.post("/v1/embeddings", files={"file": bytes(1_100_000)})
    assert_refused(answer, 413, "too_large", "at most 1000000 are taken")
    assert_refused(
        client.post("/v1/embeddings", files={"file": bytes(4_000_000)}), 413, "too_large", "The request has"
    )
    answer = client.post("/v1/embeddings", json={"input": [[1]] * 100_000})
    assert_refused(answer, 413, "too_large", "at most 100000 are taken")
    long = write_video(tmp_path / "long.mp4", 180)
    answer = client.post("/v1/embeddings", files={"file": long.open("rb")})
    assert_refused(
        answer, 422, "unreadable_video", "it has 6.0 seconds, and at most 5 are taken. Send a shorter part."
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "2130706433", "169.254.169.254"])
def test_no_address_leads_into_the_own_network(client, host):
    answer = client.post("/v1/embeddings", json={"input": part(f"http://{host}:9/latest/meta-data")})
    assert_refused(answer, 422, "unreadable_video", "an address of this machine or of its network, which is refused.")


def test_nothing_is_left_behind_and_figures_are_kept(client, app):
    embed(client, VIDEO)
    for _ in range(100):
        if not (left := [path for path in app.state.folder.iterdir() if not path.name.startswith(".")]):
            break
        time.sleep(0.1)
    assert left == []
    text = client.get("/metrics").text
    assert 'internvideo_requests_total{endpoint="/v1/embeddings",status="200"}' in text
    assert 'internvideo_videos_total{outcome="unreadable"}' in text
    assert client.get("/health").json() == {"status": "ok"}
    (model,) = client.get("/v1/models").json()["data"]
    assert model["id"] == "demo-mm" and model["abilities"] == ["embeddings", "classify", "search"]


@pytest.mark.parametrize(
    ("name", "ability"),
    [
        ("demo-captioner", "caption"),
        pytest.param("demo-actionformer", "localize", marks=pytest.mark.slow),
        pytest.param("demo-classifier", "classify", marks=pytest.mark.slow),
    ],
)
def test_the_examples_of_the_other_models_run(name, ability):
    app = create_app(ServedModel.load(name, device="cpu"), key="secret", decoders=1)
    headers = {"authorization": "Bearer secret"}
    with running(app) as address, httpx.Client(base_url=address, timeout=60, headers=headers) as client:
        assert client.get("/openapi.json").json()["security"] == [{"key": []}]
        for title, example in EXAMPLES[ability].items():
            answer = client.post(f"/v1/{ability}", json=example)
            if "given labels" in title:
                assert_refused(answer, 400, "invalid_request", "12 labels of its own. Leave out labels")
            else:
                assert answer.status_code == 200 and len(answer.json()["data"]) == 1, answer.text
        assert client.get("/v1/models", headers={"authorization": "Bearer wrong"}).status_code == 401
