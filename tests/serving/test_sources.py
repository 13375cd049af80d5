"""Which addresses are taken, and how they are opened."""

import base64
import tempfile
from pathlib import Path

import pytest
from PIL import Image
from servers import serve_folder
from video.clips import write_video

from internvideo_hf.serving.errors import RequestError
from internvideo_hf.serving.limits import Access, Limits
from internvideo_hf.serving.sources import Source, fetch, is_remote, named, opened, own_file, source_of
from internvideo_hf.video import VideoDecodeError


@pytest.fixture(autouse=True)
def _own_temporary_folder(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", tempfile.gettempdir())


@pytest.fixture
def video(tmp_path) -> Path:
    return write_video(tmp_path / "videos/a b.mp4", 30) if (tmp_path / "videos").mkdir() is None else None


def take(url: str, folder: Path, access: Access | None = None, **limits) -> Source:
    return source_of(url, "input", folder, access or Access(), Limits(**limits))


def of_path(path: Path) -> str:
    return path.as_uri()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("/etc/passwd", "it is no address that is taken. Give an http"),
        ("clip.mp4", "it is no address"),
        ("", "it is no address"),
        ("file:///etc/passwd", "files of this server are not taken"),
        ("FILE:///etc/passwd", "files of this server are not taken"),
        ("s3://bucket/a.mp4", "s3:// addresses are not taken"),
        ("gs://bucket/a.mp4", "gs:// addresses"),
        ("hf://datasets/a/b.mp4", "hf:// addresses"),
        ("rtsp://camera/1", "rtsp:// addresses"),
        ("concat:a.mp4|b.mp4", "it is no address"),
        ("data:video/mp4,abc", "must read data:video/mp4;base64,CONTENT"),
        ("data:video/mp4;base64,????", "is not base64"),
        ("data:video/jpeg;base64,AAAA,AAAA", "is not base64"),
    ],
)
def test_other_addresses_are_refused(url, words, tmp_path):
    with pytest.raises(RequestError, match=f"^input: .*{words}") as refused:
        take(url, tmp_path)
    assert refused.value.status == 400 and refused.value.param == "input" and not list(tmp_path.iterdir())


def test_http_addresses_are_for_the_decoder_and_their_secrets_for_nobody(tmp_path):
    source = take("https://me:secret@a.org/b.mp4?token=secret", tmp_path)
    assert source.address == "https://me:secret@a.org/b.mp4?token=secret"
    assert source.name == "input (https://a.org/b.mp4)"


def test_the_content_of_a_data_url_is_a_file_of_the_request(tmp_path):
    url = f"data:video/mp4;base64,{base64.b64encode(b'content').decode()}"
    source = take(url, tmp_path)
    assert Path(source.address).read_bytes() == b"content" and Path(source.address).parent == tmp_path
    with pytest.raises(RequestError, match="at most 3 are taken") as refused:
        take(url, tmp_path, max_bytes=3)
    assert refused.value.status == 413


def test_files_of_allowed_folders_are_taken_and_no_way_leads_out(video, tmp_path):
    access = Access(folders=(video.parent,))
    source = take(of_path(video), tmp_path, access)
    assert source.address == str(video.resolve()) and source.name == "input (a b.mp4)"
    (tmp_path / "secret.mp4").write_bytes(b"x")
    (video.parent / "out.mp4").symlink_to(tmp_path / "secret.mp4")
    (video.parent / "in.mp4").symlink_to(video)
    (video.parent / "up").symlink_to(tmp_path)
    assert take(of_path(video.parent / "in.mp4"), tmp_path, access).address == str(video.resolve())
    messages = set()
    for url in (
        of_path(video.parent / "out.mp4"),
        of_path(video.parent / "up/secret.mp4"),
        f"file://{video.parent}/../secret.mp4",
        f"file://{video.parent}/%2e%2e/secret.mp4",
        f"file://{video.parent}/none.mp4",
        f"file://{video.parent}",
        f"file://{video.parent}x/a.mp4",
        f"file://elsewhere{video}",
        "file:///a%00b",
        "file:///etc/passwd",
    ):
        with pytest.raises(RequestError) as refused:
            take(url, tmp_path, access)
        messages.add(refused.value.message)
    assert messages == {"input: there is no such file in the folders of --allow-dir."}


def test_a_video_is_opened_within_the_limits(video, tmp_path):
    source = Source(str(video), "input", str(tmp_path / "request"))
    with opened(source, "auto", Limits()) as reader:
        assert reader.num_frames == 30
    assert tempfile.gettempdir() == source.folder
    for limit, words in (
        ({"max_frames": 29}, "it has 30 frames, and at most 29 are taken"),
        ({"max_seconds": 0.9}, "it has 1.0 seconds, and at most 0.9 are taken"),
        ({"max_bytes": 100}, f"it has {video.stat().st_size} bytes, and at most 100"),
    ):
        with pytest.raises(VideoDecodeError, match=words), opened(source, "auto", Limits(**limit)):
            pytest.fail("it was opened")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_uploaded_images_are_known_by_their_content(kind, tmp_path):
    path = own_file(tmp_path)
    Image.new("RGB", (20, 10), (200, 0, 0)).save(path, kind)
    source = Source(str(named(path)), "input", str(tmp_path))
    for _ in range(2):  # a decoder that was lost leaves it for the next
        with opened(source, "auto", Limits()) as reader:
            assert reader.read([0]).shape == (1, 10, 20, 3)


@pytest.mark.parametrize(
    "content",
    [b"ffconcat version 1.0\nfile '{}'\n", b"#EXTM3U\n#EXTINF:1,\n{}\n", b"#EXTM3U\n#EXTINF:1,\nfile://{}\n"],
)
def test_an_uploaded_list_of_files_opens_none_of_them(content, video, tmp_path):
    path = own_file(tmp_path)
    path.write_bytes(content.replace(b"{}", str(video).encode()))
    source = Source(str(path), "input", str(tmp_path))
    with pytest.raises(VideoDecodeError), opened(source, "auto", Limits()):
        pytest.fail("it was opened")


def test_a_video_is_fetched_into_the_folder_of_the_request(video, tmp_path):
    folder = tmp_path / "request"
    folder.mkdir()
    with serve_folder(video.parent) as address:
        host = address.removeprefix("http://")
        source = Source(f"{address}/a%20b.mp4", "input (it)", str(folder))
        assert is_remote(source)
        with pytest.raises(
            VideoDecodeError, match=r"^input \(it\): it leads to 127.0.0.1, an address of this machine"
        ):
            fetch(source, Access(), Limits())
        with pytest.raises(VideoDecodeError, match="larger than 100 bytes"):
            fetch(source, Access((host,)), Limits(max_bytes=100))
        assert not list(folder.iterdir())
        found = fetch(source, Access((host,)), Limits())
    assert not is_remote(found) and [Path(found.address)] == list(folder.iterdir()) and found.name == source.name
    with opened(found, "auto", Limits()) as reader:
        assert reader.num_frames == 30
