"""Folders of the machine in messages, requests and answers of the page."""

import asyncio
from pathlib import Path

import pytest

from internvideo_hf.demo.path_alias import PathAlias, without_folders

FOLDER = Path("/home/anna/größe/internvideo-page-1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/anna/my clips/dog.mp4: it is damaged", "dog.mp4: it is damaged"),
        ("got '/a/b.mp4' and \"/c/d/e.mp4\".", "got 'b.mp4' and \"e.mp4\"."),
        (
            "/srv/models/m: It reads no text. Search by video or image.",
            "m: It reads no text. Search by video or image.",
        ),
        ("see file:///a/b/c.mp4 or /d/e.mp4", "see c.mp4 or e.mp4"),
        ("https://host/a/b.mp4", "https://host/a/b.mp4"),
        ("red / green / blue, and/or </b> 5 m/s", "red / green / blue, and/or </b> 5 m/s"),
    ],
)
def test_a_message_names_files_without_their_folders(text, expected):
    assert without_folders(text) == expected


def exchange(path: str, parts: list[bytes], content_type: bytes, answer: bytes, answer_type: bytes):
    """Return the path and the body that an application behind the alias gets, and the body that it sends."""
    got, sent = {}, []

    async def app(scope, receive, send):
        got.update(path=scope["path"], body=b"", messages=0)
        while True:
            message = await receive()
            got["body"] += message["body"]
            got["messages"] += 1
            if not message.get("more_body"):
                break
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", answer_type)]})
        await send({"type": "http.response.body", "body": answer})

    async def send(message):
        sent.append(message)

    messages = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)}
        for number, part in enumerate(parts, 1)
    ]
    receive = iter(messages).__next__

    async def receive_next():
        return receive()

    scope = {"type": "http", "path": path, "headers": [(b"content-type", content_type)]}
    asyncio.run(PathAlias(app, FOLDER)(scope, receive_next, send))
    return got, sent[1]["body"]


def test_answers_name_an_alias_of_the_same_length_that_requests_may_name():
    answer = f'["{FOLDER}/a.mp4", "{FOLDER}/b.mp4"]'.encode()
    _, sent = exchange("/upload", [b""], b"", answer, b"application/json; charset=utf-8")
    alias = sent.decode().split('"')[1].removesuffix("/a.mp4")
    assert len(sent) == len(answer) and alias.isascii() and "anna" not in sent.decode() and sent.count(b"/b.mp4") == 1

    asked = f'{{"path": "{alias}/a.mp4"}}'.encode()
    expected = f'{{"path": "{FOLDER}/a.mp4"}}'.encode()
    for parts in ([asked], [asked[:15], asked[15:20], asked[20:]]):
        got, _ = exchange(f"/file={alias}/a.mp4", parts, b"application/json", b"", b"")
        assert got == {"path": f"/file={FOLDER}/a.mp4", "body": expected, "messages": 1}


def test_the_bytes_of_files_are_left_alone():
    content = str(FOLDER).encode()
    got, sent = exchange("/upload", [content, b"", content], b"multipart/form-data; boundary=a", content, b"video/mp4")
    assert got["messages"] == 3 and got["body"] == content * 2 and sent == content


def test_other_connections_pass():
    got = []

    async def app(scope, receive, send):
        got.append((scope, receive, send))

    asyncio.run(PathAlias(app, FOLDER)({"type": "lifespan"}, 1, 2))
    assert got == [({"type": "lifespan"}, 1, 2)]
