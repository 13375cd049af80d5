"""`internvideo demo --index`: search, playback, messages, served files, and the page in a browser."""

import http.client
import os
import re
import shutil
import socket
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import av
import numpy as np
import pytest
from demo.ports import free_port
from demo.reading import CONTRASTS, PRESSED
from PIL import ImageColor
from video.clips import decode_in_order, moving_picture, write_video

import internvideo_hf
from internvideo_hf import VideoDecodeError, VideoReader
from internvideo_hf.demo import tour, web
from internvideo_hf.search.clips import Windowing, windows
from internvideo_hf.search.hits import Hit
from internvideo_hf.search.index import VideoIndex
from internvideo_hf.utils.pictures import MISSING

pytestmark = pytest.mark.filterwarnings("ignore:::gradio")

LABELS = "there is a green heart, there is a purple square\nthere is a blue circle"


@pytest.fixture(scope="module")
def index(drawn):
    return VideoIndex.load(drawn[0] / "index", device="cpu")


@pytest.fixture(scope="module")
def address(index):
    pytest.importorskip("gradio", reason="the extra demo is not installed")
    with web.serving(index, port=free_port()) as address:
        yield address


# What it says


def test_a_line_tells_index_and_model_and_another_what_demo_weights_know(index, tmp_path):
    first, second = web.about(index).splitlines()
    assert "6 videos in 12 clips" in first and str(index.folder) in first and "demo-mm" in first
    assert second == tour.LIMITS
    assert tour.LIMITS not in web.about(VideoIndex(tmp_path))


def test_labels_are_divided_by_commas_and_lines():
    assert web.labels_of(" a dog, a cat\n\n a red, ,car\n") == ["a dog", "a cat", "a red", "car"]
    assert web.labels_of(" \n,") == []


def test_labels_come_with_score_and_cosine():
    def classify(video, **options):
        asked.append((video, options))
        return [{"label": "a", "score": 0.75, "similarity": 0.25}, {"label": "b", "score": 0.25, "similarity": -0.1}]

    asked = []
    expected = [["a", "75.0%", "0.250"], ["b", "25.0%", "-0.100"]]
    assert web.label_rows(classify, "clip.mp4", "a, b") == expected
    assert web.label_rows(classify, "clip.mp4", "a, b", " this is {} ") == expected
    options = {"candidate_labels": ["a", "b"]}
    assert asked == [("clip.mp4", options), ("clip.mp4", options | {"hypothesis_template": "this is {}"})]
    for video, labels, word in ((None, "a", "Upload"), ("clip.mp4", " , \n", "no labels")):
        with pytest.raises(ValueError, match=word):
            web.label_rows(classify, video, labels)


# What it plays


@pytest.mark.parametrize("window", [0.5, 1 / 3, 0.7, None])
@pytest.mark.parametrize("times", [None, [0, 1, 2, 3, 7, 8, 30, 31, 32, 33, 34, 35, 59, 60, 61, 75]])
def test_the_clips_of_a_video_have_its_frames_once_each(tmp_path, window, times):
    path = write_video(tmp_path / "a.mp4", 16 if times else 40, times=times, bframes=0)
    with VideoReader(path) as reader:
        found = []
        for begin, end in windows(reader.duration, Windowing(window)):
            try:
                frames = web.frames_of(Hit(str(path), round(begin, 3), round(end, 3), 0.3, 0.5), reader)
            except VideoDecodeError:  # a gap in the times that spans the window
                continue
            assert begin - 1e-6 <= reader.seconds[frames.start] and reader.seconds[frames.stop - 1] < end
            found += frames
        assert found == list(range(reader.num_frames))


def test_a_last_frame_of_next_to_no_duration_belongs_to_the_last_clip():
    reader = SimpleNamespace(num_frames=3, timeline=np.array([0, 0.1, 0.2, 0.20001]))
    assert web.frames_of(Hit("a.mp4", 0.1, 0.2, 0.3, 0.5), reader) == range(1, 3)


@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        ("a.mp4", (48, 64), {}),
        ("a.avi", (48, 64), {"codec": "mpeg4"}),
        ("odd.mkv", (49, 63), {"codec": "ffv1"}),
        ("uneven.mp4", (48, 64), {"times": sorted({*range(0, 60, 3), *range(20, 50)}), "bframes": 0}),
    ],
)
def test_a_clip_is_cut_to_its_very_frames_and_browsers_play_it(tmp_path, name, size, options):
    count = len(options.get("times", range(40)))
    source = write_video(tmp_path / name, count, size=size, **options)
    with VideoReader(source) as reader:
        seconds = reader.seconds
    wanted = np.flatnonzero((seconds >= 0.5 - 1e-6) & (seconds < 1 - 1e-6))
    cut = web.cut_clip(Hit(str(source), 0.5, 1.0, 0.3, 0.5), tmp_path / "clips")
    assert cut.suffix == ".mp4" and [path.name for path in cut.parent.iterdir()] == [cut.name]
    with av.open(str(cut)) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.height, stream.width) == tuple(2 * round(side / 2) for side in size)
        times = [float(frame.time) for frame in container.decode(stream)]
    assert np.allclose(times, seconds[wanted] - seconds[wanted[0]], atol=1e-3)
    # Frame by frame, the one of the source that looks most like it.
    frames = decode_in_order(cut).astype(float)[:, :48, :62]
    known = moving_picture(count, *size).astype(float)[:, :48, :62]
    nearest = [np.abs(known - frame).mean(axis=(1, 2, 3)).argmin() for frame in frames]
    assert nearest == wanted.tolist()
    content = cut.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_of_a_long_clip_the_begin_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(web, "LONGEST", 0.5)
    source = write_video(tmp_path / "a.mp4", 40)
    for hit in (Hit(str(source), 0.3, 1.3, 0.3, 0.5), Hit(str(source), None, None, 0.3, 0.5)):
        assert len(decode_in_order(web.cut_clip(hit, tmp_path))) == 15


def test_a_source_that_is_gone_or_shorter_now_is_told(tmp_path):
    with pytest.raises(VideoDecodeError, match="no such file"):
        web.cut_clip(Hit(str(tmp_path / "gone.mp4"), 0.0, 1.0, 0.3, 0.5), tmp_path / "clips")
    source = write_video(tmp_path / "a.mp4", 10)
    with pytest.raises(VideoDecodeError, match="no longer has frames at 0:08-0:16.*internvideo index"):
        web.cut_clip(Hit(str(source), 8.0, 16.0, 0.3, 0.5), tmp_path / "clips")
    assert not list(tmp_path.rglob("clips/*/*"))


# The page, over HTTP


@pytest.fixture(scope="module")
def client(address):
    from gradio_client import Client

    return Client(address, verbose=False, download_files=False)


def found_by(answer) -> list[str]:
    return [entry["caption"] for entry in answer[1]["value"]]


def test_search_finds_the_clip_or_says_that_nothing_matches(client, drawn):
    sentence = drawn[1][3]
    answer = client.predict(sentence, 3, api_name="/search")
    assert re.match("<h2>[12] of these 3 clips match", answer[0])
    first, *others = found_by(answer)
    assert re.fullmatch(r"\u2713 1\. 00003\.mp4\n0:0\d-0:0\d\ncosine 0\.\d{3}, z \+\d\.\d, above \d+%", first)
    assert len(others) == 2
    answer = client.predict("people cook pasta in a kitchen", 2, api_name="/search")
    assert "Nothing here matches: these are the nearest of 12 clips" in answer[0]
    assert [caption.split(".")[0] for caption in found_by(answer)] == ["1", "2"]
    assert "Write the text in English" not in answer[0]
    answer = client.predict("квадрат", 2, api_name="/search")
    assert "Write the text in English" in answer[0] and len(found_by(answer)) == 2


def test_nothing_names_a_folder_of_the_machine(address, index, drawn):
    from gradio_client import Client, handle_file

    folder, sentences = drawn
    client = Client(address, verbose=False, download_files=False)
    page = urllib.request.urlopen(address, timeout=10).read().decode()
    upload = handle_file(folder / "test/00002.mp4")
    got = [
        page,
        client.predict(sentences[0], 3, api_name="/search"),
        client.predict(upload, 3, api_name="/search_by_example"),
        client.predict(upload, LABELS, "{}", api_name="/label"),
        client.submit(handle_file(__file__), 3, api_name="/search_by_example").result(),
    ]
    assert "demo-mm" in page and Path(index.folder).name in page
    for text in map(str, got):
        for secret in (
            folder,
            index.folder,
            Path(index.model).parent,
            os.environ["GRADIO_TEMP_DIR"],
            Path(__file__).parent,
        ):
            assert str(secret) not in text


def test_texts_contrast_with_what_is_behind_them(address):
    style = urllib.request.urlopen(f"{address}theme.css", timeout=10).read().decode()
    light, dark = (dict(re.findall(r"--([\w-]+): ([^;]+);", part)) for part in style.split(":root.dark"))
    texts = {
        "body-text-color": ("body-background-fill", "block-background-fill", "background-fill-secondary"),
        "body-text-color-subdued": ("body-background-fill", "block-background-fill", "background-fill-secondary"),
        "block-title-text-color": ("block-background-fill",),
        "block-label-text-color": ("block-label-background-fill",),
        "input-placeholder-color": ("input-background-fill",),
        "button-primary-text-color": ("button-primary-background-fill", "button-primary-background-fill-hover"),
        "error-text-color": ("error-background-fill",),
    }
    assert len(light) > 100 < len(dark)
    for colors in (light, light | dark):
        for text, papers in texts.items():
            for paper in papers:
                assert contrast(*(color_of(name, colors) for name in (text, paper))) >= 4.5, (text, paper)


def color_of(name: str, colors: dict[str, str]) -> list[int]:
    """Return red, green and blue of a name, whose value may be another name."""
    value = colors[name]
    while found := re.fullmatch(r"var\(--([\w-]+)\)", value):
        value = colors[found[1]]
    return list(ImageColor.getrgb(value))[:3]


def contrast(*colors: list[int]) -> float:
    """Return the contrast of two colors, 1 to 21, as WCAG 2 defines it."""
    dark, light = sorted(
        sum(
            weight * (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4)
            for weight, c in zip((0.2126, 0.7152, 0.0722), (value / 255 for value in color), strict=True)
        )
        for color in colors
    )
    return (light + 0.05) / (dark + 0.05)


def test_contrast_of_known_colors():
    assert contrast([0, 0, 0], [255, 255, 255]) == pytest.approx(21)
    assert contrast([119, 119, 119], [255, 255, 255]) == pytest.approx(4.48, abs=0.005)  # as WebAIM's table has it


def test_search_takes_a_video_or_an_image_for_example(client, drawn, tmp_path):
    from gradio_client import handle_file
    from PIL import Image

    path = drawn[0] / "test/00002.mp4"
    answer = client.predict(handle_file(path), 1, api_name="/search_by_example")
    assert found_by(answer)[0].startswith("1. 00002.mp4") and ", z " not in found_by(answer)[0]
    with VideoReader(path) as reader:
        Image.fromarray(reader.read([4])[0]).save(tmp_path / "frame.png")
    answer = client.predict(handle_file(tmp_path / "frame.png"), 1, api_name="/search_by_example")
    assert len(found_by(answer)) == 1 and "problem" not in answer[0]


def test_an_upload_gets_labels(client, drawn):
    from gradio_client import handle_file

    assert "purple square" in drawn[1][2]
    table = client.predict(handle_file(drawn[0] / "test/00002.mp4"), LABELS, "{}", api_name="/label")
    head, first, *others = [
        re.findall("<t[dh](?: .*?)?>(.*?)(?:<div.*?)?</t[dh]>", row) for row in table.split("</tr>")[:-1]
    ]
    assert head == ["label", "score", "cosine"] and first[0] == "there is a purple square" and len(others) == 2
    assert sum(float(row[1].rstrip("%")) for row in (first, *others)) == pytest.approx(100, abs=0.2)
    assert "English" not in table
    table = client.predict(handle_file(drawn[0] / "test/00002.mp4"), "квадрат, a circle", "{}", api_name="/label")
    assert "Write the text in English" in table and table.count("<tr>") == 3


def test_bad_input_is_told_and_the_page_goes_on(client, drawn, tmp_path):
    from gradio_client import handle_file

    good = drawn[0] / "test/00000.mp4"
    (tmp_path / "cut.mp4").write_bytes(good.read_bytes()[:3000])
    (tmp_path / "notes.txt").write_text("no video")
    (tmp_path / "empty.mp4").touch()
    cases = [
        (("", 3), "/search", "The text is empty"),
        (("a dog " * 200, 3), "/search", "at most 32. Shorten it.</p>"),
        (("фиолетовый квадрат", 3), "/search", "at most 32. Letters of other scripts"),
        ((None, 3), "/search_by_example", "no example yet"),
        ((handle_file(tmp_path / "notes.txt"), 3), "/search_by_example", "notes.txt: "),
        ((None, LABELS, ""), "/label", "Upload one"),
        ((handle_file(good), " ,", ""), "/label", "no labels"),
        ((handle_file(good), "<b>dog</b>, <b>dog</b>", ""), "/label", "&lt;b&gt;dog&lt;/b&gt; twice"),
        ((handle_file(good), "a dog", "a video"), "/label", "must hold {} once"),
        ((handle_file(tmp_path / "cut.mp4"), LABELS, ""), "/label", "cut.mp4: "),
        ((handle_file(tmp_path / "empty.mp4"), LABELS, ""), "/label", "empty.mp4: "),
    ]
    for arguments, name, words in cases:
        answer = client.predict(*arguments, api_name=name)
        said, hits = (answer, None) if name == "/label" else answer[:2]
        assert said.startswith('<div class="problem"') and words in said and not hits, answer
        assert "Traceback" not in said and str(tmp_path) not in said and "internvideo-" not in said
        assert "truncation" not in said and "candidate_labels" not in said
    assert len(found_by(client.predict("a heart", 3, api_name="/search"))) == 3


def test_an_uploaded_list_of_files_is_refused(client, drawn, tmp_path):
    from gradio_client import handle_file

    private = drawn[0] / "test/00000.mp4"
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile '{private}'\n")
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{private}\n#EXT-X-ENDLIST\n")
    for file in tmp_path.iterdir():
        answer = client.predict(handle_file(file), 3, api_name="/search_by_example")
        assert "it is a playlist" in answer[0] and not answer[1]
    assert "it is a playlist" in client.predict(handle_file(tmp_path / "list.mp4"), LABELS, "", api_name="/label")


def test_a_video_that_is_gone_leaves_a_hit_with_a_grey_tile(client, address, drawn):
    from PIL import Image

    folder, sentences = drawn
    os.rename(folder / "test/00004.mp4", folder / "away.mp4")
    try:
        answer = client.predict(sentences[4], 1, api_name="/search")
    finally:
        os.rename(folder / "away.mp4", folder / "test/00004.mp4")
    assert "00004.mp4" in found_by(answer)[0]
    file = f"{address}gradio_api/file={answer[1]['value'][0]['image']['path']}"
    with urllib.request.urlopen(file, timeout=10) as content, Image.open(content) as picture:
        assert np.abs(np.asarray(picture.convert("RGB"))[:20].astype(int) - MISSING).max() < 4


def status_of(address: str, file: object) -> int:
    try:
        return urllib.request.urlopen(f"{address}gradio_api/file={file}", timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code


def test_only_cut_clips_pictures_and_uploads_are_served(address, client, drawn, tmp_path):
    folder, sentences = drawn
    (tmp_path / "private.mp4").write_bytes((folder / "test/00000.mp4").read_bytes())
    picture = client.predict(sentences[0], 1, api_name="/search")[1]["value"][0]["image"]["path"]
    served = Path(os.environ["GRADIO_TEMP_DIR"])
    clip = web.cut_clip(Hit(str(folder / "test/00000.mp4"), 0.0, 1.0, 0.3, 0.5), served / "clips")
    assert not picture.startswith(str(served))
    assert [status_of(address, file) for file in (picture, clip)] == [200, 200]
    for file in (
        *(Path(picture).parents[1] / name for name in ("", "../private.mp4", f"../..{tmp_path}/private.mp4")),
        *("/etc/passwd", __file__, tmp_path / "private.mp4", served / "../private.mp4", folder / "index/index.json"),
        *(f"{served}/..{tmp_path}/private.mp4", folder / "test/00000.mp4", Path.home()),
    ):
        assert status_of(address, file) == 403, file


def status(address: str, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> int:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    return connection.getresponse().status


def test_requests_under_a_foreign_name_and_large_ones_are_refused(address):
    port, upload = urlsplit(address).port, "/gradio_api/upload"
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "LOCALHOST", f"[::1]:{port}"):
        assert status(address, "GET", "/", {"Host": host}) == 200
    for host in (f"evil.example:{port}", "localhost.evil.example", "127.0.0.1.evil.example", "[::1", ""):
        assert status(address, "GET", "/", {"Host": host}) in (400, 403)
        assert status(address, "POST", "/gradio_api/queue/join", {"Host": host, "Content-Length": "0"}) in (400, 403)
    here = {"Host": "localhost", "Content-Type": "multipart/form-data; boundary=a"}
    assert status(address, "POST", upload, {**here, "Content-Length": str(5 << 30)}) == 413
    assert status(address, "POST", upload, {**here, "Transfer-Encoding": "chunked"}, b"0\r\n\r\n") == 411
    assert status(address, "POST", "/gradio_api/queue/join", {**here, "Content-Length": str(2 << 20)}) == 413


def test_a_request_that_does_not_come_from_the_page_is_bounded(client):
    for count in (10**9, -5):
        with pytest.raises(Exception, match="is (greater|less) than"):
            client.predict("a dog", count, api_name="/search")
    assert "more than 20000. Shorten it" in client.predict("a" * 20_001, 3, api_name="/search")[0]
    with pytest.raises(ValueError, match="501 labels, more than 500"):
        web.label_rows(None, "a.mp4", ",".join(map(str, range(501))))


def test_it_listens_on_this_machine_only_and_sends_nothing_out(address):
    port = urlsplit(address).port
    with socket.socket() as other, pytest.raises(OSError):
        other.settimeout(2)
        other.connect(("127.0.0.2", port))
    page = urllib.request.urlopen(address, timeout=10).read().decode()
    assert '"analytics_enabled":false' in page.replace(" ", "")
    assert "fonts.googleapis" not in page and "gradio.live" not in page


def test_what_it_wrote_is_deleted_at_the_end_and_a_taken_port_is_told(index, monkeypatch):
    pytest.importorskip("gradio", reason="the extra demo is not installed")
    monkeypatch.setenv("GRADIO_TEMP_DIR", "before")
    with web.serving(index, port=free_port()) as address:
        folder = Path(os.environ["GRADIO_TEMP_DIR"])
        assert folder.stat().st_mode & 0o077 == 0
        with (
            pytest.raises(OSError, match="Cannot listen.*--port"),
            web.serving(index, port=urlsplit(address).port),
        ):
            pass
    assert not folder.exists() and os.environ["GRADIO_TEMP_DIR"] == "before"
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address, timeout=2)


def test_a_model_without_texts_has_no_labels(index, monkeypatch, tmp_path):
    pytest.importorskip("gradio", reason="the extra demo is not installed")
    monkeypatch.setattr(index.encoder, "text_problem", "It reads no text.")
    names = {function.api_name for function in web.build_app(index, tmp_path).fns.values()}
    assert "search" in names and "label" not in names


def test_an_empty_index_is_refused(tmp_path):
    pytest.importorskip("gradio", reason="the extra demo is not installed")
    with pytest.raises(ValueError, match="internvideo index"):
        web.build_app(VideoIndex(internvideo_hf.demo_path("demo-mm")), tmp_path)


# The browser


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright, which drives a browser, is not installed"
    )
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no chromium is on this machine")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser, **options):
    page = browser.new_context(reduced_motion="reduce", **options).new_page()
    page.set_default_timeout(30_000)
    return page


@pytest.fixture
def page(browser):
    page = opened(browser)
    yield page
    page.context.close()


@pytest.fixture(params=["light", "dark"])
def phone(browser, request):
    size = {"width": 390, "height": 844}
    page = opened(browser, viewport=size, is_mobile=True, has_touch=True, color_scheme=request.param)
    yield page
    page.context.close()


PLAYS = "([name]) => { const v = document.querySelector(name); return v && v.videoWidth > 0 && v.currentTime > 0 }"


def test_a_browser_searches_plays_and_labels(page, address, drawn):
    folder, sentences = drawn
    asked = []
    page.on("request", lambda request: asked.append(urlsplit(request.url)))
    page.goto(address)
    page.get_by_text(tour.LIMITS.split("`")[2].strip()).wait_for()

    box = page.get_by_label("What the clips should show")
    box.fill(sentences[3])
    box.press("Enter")
    hits = page.locator("#hits .caption-label")
    hits.nth(5).wait_for()
    assert "\u2713 1. 00003.mp4" in hits.nth(0).inner_text()
    assert "of these 6 clips match" in page.locator("#verdict h2").inner_text()
    hits.nth(0).click()
    page.wait_for_function(PLAYS, arg=["#player video"])
    assert "00003.mp4 0:0" in page.locator("#played").inner_text()

    os.rename(folder / "test/00003.mp4", folder / "away.mp4")
    try:
        hits.nth(0).click()
        page.get_by_text("00003.mp4: no such file").wait_for()
    finally:
        os.rename(folder / "away.mp4", folder / "test/00003.mp4")

    box.fill("people cook pasta in a kitchen")
    page.get_by_role("button", name="Search", exact=True).click()
    page.get_by_text("Nothing here matches").wait_for()

    page.get_by_role("tab", name="Labels").click()
    page.get_by_role("button", name="Label", exact=True).click()
    page.get_by_text("Upload one first").wait_for()
    page.locator("#clip input[type=file]").set_input_files(folder / "test/00002.mp4")
    page.locator("#clip video").wait_for()
    page.get_by_label("Labels, separated").fill(LABELS)
    page.get_by_label("Sentence around").fill("{}")
    page.get_by_role("button", name="Label", exact=True).click()
    rows = page.locator("#answers tr")
    rows.nth(3).wait_for()
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    label, score, cosine = rows.nth(1).inner_text().split("\t")
    assert label == "there is a purple square" and score.strip().endswith("%") and -1 <= float(cosine) <= 1

    assert {url.hostname for url in asked if url.scheme.startswith("http")} == {"127.0.0.1"}


def check_a_person_can_use(page):
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 10 and min(contrasts)[0] >= 4.5, min(contrasts)
    for width, height, right, name, written in page.evaluate(PRESSED):
        assert width >= 44 and height >= 44 and 0 < right <= 390 and name.strip(), written
    assert page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.slow
def test_a_person_with_a_phone_reads_presses_and_searches(phone, address, drawn):
    folder, sentences = drawn
    phone.goto(address)
    heading = phone.get_by_role("heading", level=1)
    assert heading.inner_text() == phone.title() == "Search videos"
    assert phone.locator("meta[name=viewport]").get_attribute("content").startswith("width=device-width")
    box = phone.get_by_label("What the clips should show")
    box.wait_for()
    phone.get_by_text("Choose one to play it").wait_for()
    check_a_person_can_use(phone)

    box.fill(sentences[3])
    phone.get_by_role("button", name="Search", exact=True).tap()
    hits = phone.locator("#hits .thumbnail-item")
    hits.nth(5).wait_for()
    phone.get_by_text("What the scores mean").tap()
    terms = [term.split()[-1] for term in phone.locator("#verdict dt").all_inner_texts()]
    assert terms == ["match", "cosine", "z", "percent"]
    hits.nth(5).tap()
    phone.wait_for_function(PLAYS, arg=["#player video"])
    box_of_player = phone.locator("#player").bounding_box()
    assert phone.evaluate("scrollY") > 100 and 0 <= box_of_player["y"] <= 844 - box_of_player["height"]
    check_a_person_can_use(phone)

    phone.get_by_text("Search by an example").tap()
    phone.locator("#example input[type=file]").set_input_files(__file__)
    phone.get_by_role("alert").wait_for()
    check_a_person_can_use(phone)

    phone.get_by_role("tab", name="Labels").tap()
    phone.locator("#clip input[type=file]").set_input_files(folder / "test/00002.mp4")
    phone.locator("#clip video").wait_for()
    phone.get_by_label("Labels, separated").fill(LABELS)
    phone.get_by_role("button", name="Label", exact=True).tap()
    phone.locator("#answers tr").nth(3).wait_for()
    check_a_person_can_use(phone)


def test_what_the_keyboard_is_on_is_seen(page, address, drawn):
    page.goto(address)
    box = page.get_by_label("What the clips should show")
    box.fill(drawn[1][3])
    box.press("Enter")
    page.locator("#hits .caption-label").nth(5).wait_for()
    seen = []
    for _ in range(9):
        page.keyboard.press("Tab")
        style, width, color, name = page.evaluate(
            "() => { const e = document.activeElement, s = getComputedStyle(e);"
            "return [s.outlineStyle, s.outlineWidth, s.outlineColor, e.ariaLabel || e.innerText] }"
        )
        assert (style, width, color) == ("solid", "3px", "rgb(29, 78, 216)"), name
        seen.append(name.split("\n")[0])
    assert "Search" in seen and "What the scores mean" in seen and "Thumbnail 1 of 6" in seen
