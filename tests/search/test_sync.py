"""Sync plans for known and found files, and their ordered execution."""

import os
from dataclasses import asdict, replace

import pytest

from internvideo_hf.search.stores.base import Known
from internvideo_hf.search.stores.segments import Video
from internvideo_hf.search.sync import Change, File, Found, Plan, Todo, execute, plan, survey
from internvideo_hf.video.errors import VideoDecodeError

A, B = Video("/a", 10, 1, "aaa", 3), Video("/b", 20, 2, "bbb", 1)


def known(*videos: Video, **missing: tuple[int, ...]) -> Known:
    return Known({video.path: video for video in videos}, {f"/{name}": numbers for name, numbers in missing.items()})


def unchanged(video: Video) -> File:
    return File(video.path, video.size, video.mtime)


@pytest.mark.parametrize(
    ("before", "found", "prune", "change", "embed", "renamed", "copies"),
    [
        pytest.param(known(), Found([File("/a", 10, 1)]), (), {"new": ["/a"]}, {"/a": Todo()}, {}, [], id="new"),
        pytest.param(known(A), Found([unchanged(A)]), (), {"unchanged": ["/a"]}, {}, {}, [], id="unchanged"),
        pytest.param(
            known(A), Found([File("/a", 11, 1)]), (), {"changed": ["/a"]}, {"/a": Todo()}, {}, [], id="another size"
        ),
        pytest.param(
            known(A),
            Found([File("/a", 10, 5, "other")]),
            (),
            {"changed": ["/a"]},
            {"/a": Todo()},
            {},
            [],
            id="another content",
        ),
        pytest.param(
            known(A),
            Found([File("/a", 10, 5, "aaa")]),
            (),
            {"unchanged": ["/a"]},
            {},
            {"/a": replace(A, mtime=5)},
            [],
            id="touched",
        ),
        pytest.param(
            known(A, a=(1, 2)),
            Found([unchanged(A)]),
            (),
            {"new": ["/a"]},
            {"/a": Todo((1, 2), "aaa")},
            {},
            [],
            id="interrupted",
        ),
        pytest.param(
            known(A, a=(2,)),
            Found([File("/a", 10, 5, "aaa")]),
            (),
            {"new": ["/a"]},
            {"/a": Todo((2,), "aaa")},
            {"/a": replace(A, mtime=5)},
            [],
            id="interrupted and touched",
        ),
        pytest.param(
            known(A),
            Found([File("/new", 10, 5, "aaa")], {"/a"}),
            (),
            {"moved": ["/new"]},
            {},
            {"/a": replace(A, path="/new", mtime=5)},
            [],
            id="moved",
        ),
        pytest.param(
            known(A),
            Found([File("/new", 10, 5, "aaa"), unchanged(A)]),
            (),
            {"copied": ["/new"], "unchanged": ["/a"]},
            {},
            {},
            [("/a", replace(A, path="/new", mtime=5))],
            id="copied",
        ),
        pytest.param(
            known(A),
            Found([File("/n", 10, 5, "aaa"), File("/m", 10, 6, "aaa")], {"/a"}),
            {"/a"},
            {"moved": ["/n"], "copied": ["/m"]},
            {},
            {"/a": replace(A, path="/n", mtime=5)},
            [("/a", replace(A, path="/m", mtime=6))],
            id="moved once, copied after that",
        ),
        pytest.param(
            known(replace(B, content="aaa"), A),
            Found([File("/new", 10, 5, "aaa")], {"/a"}),
            (),
            {"moved": ["/new"]},
            {},
            {"/a": replace(A, path="/new", mtime=5)},
            [],
            id="the twin that is gone is taken",
        ),
        pytest.param(
            known(A, replace(B, content="aaa")),
            Found([File("/n", 10, 5, "aaa"), File("/m", 10, 6, "aaa")], {"/a", "/b"}),
            (),
            {"moved": ["/n", "/m"]},
            {},
            {"/a": replace(A, path="/n", mtime=5), "/b": replace(B, content="aaa", path="/m", mtime=6)},
            [],
            id="two copies that moved leave none behind",
        ),
        pytest.param(
            known(A),
            Found([File("/a", error="No such file"), File("/new", 10, 5, "aaa")], {"/a"}),
            (),
            {"copied": ["/new"], "failures": ["/a"]},
            {},
            {},
            [("/a", replace(A, path="/new", mtime=5))],
            id="a path that was asked for is not moved away",
        ),
        pytest.param(
            known(A, a=(0,)),
            Found([File("/new", 10, 5, "aaa")], {"/a"}),
            (),
            {"new": ["/new"]},
            {"/new": Todo()},
            {},
            [],
            id="an unfinished twin is none",
        ),
        pytest.param(
            known(replace(A, size=-1, mtime=-1)),
            Found([File("/new", -1, -1, "aaa")]),
            (),
            {"new": ["/new"]},
            {"/new": Todo()},
            {},
            [],
            id="an address is no twin",
        ),
        pytest.param(
            known(A, B), Found([unchanged(A)]), {"/b"}, {"unchanged": ["/a"], "removed": ["/b"]}, {}, {}, [], id="gone"
        ),
        pytest.param(known(A, B), Found([unchanged(A)]), (), {"unchanged": ["/a"]}, {}, {}, [], id="left alone"),
        pytest.param(
            known(A), Found([File("/a", error="No")]), {"/a"}, {"failures": ["/a"]}, {}, {}, [], id="away, yet kept"
        ),
        pytest.param(
            known(), Found([File("/a", error="No")]), (), {"new": ["/a"]}, {"/a": Todo()}, {}, [], id="new, unreadable"
        ),
    ],
)
def test_plan(before, found, prune, change, embed, renamed, copies):
    result = plan(before, found, prune)
    failures = [error.source for error in result.change.failures]
    assert vars(result.change) | {"failures": failures} == asdict(Change()) | change
    assert (result.embed, result.renamed, result.copies) == (embed, renamed, copies)


def test_survey_reads_content_only_where_it_decides(tmp_path):
    paths = {name: tmp_path / name for name in ("same", "touched", "grown", "twin", "other")}
    contents = {"same": "1", "touched": "22", "grown": "4444", "twin": "22", "other": "55555"}
    for name, path in paths.items():
        path.write_text(contents[name])
        os.utime(path, ns=(7, 7))
    gone = Video(str(tmp_path / "gone"), 2, 7, "?", 1)
    videos = [
        Video(str(paths["same"]), 1, 7, "?", 1),
        Video(str(paths["touched"]), 2, 1, "?", 1),
        Video(str(paths["grown"]), 3, 7, "?", 1),
    ]
    found = survey([*map(str, paths.values()), str(tmp_path / "none"), "https://x.org/y.mp4"], known(*videos, gone))
    files = {os.path.basename(file.path): file for file in found.files}
    hashed = {name for name, file in files.items() if file.content is not None}
    assert hashed == {"touched", "twin"} and files["touched"].content == files["twin"].content
    assert files["grown"].size == 4 and files["same"].mtime == 7 and "No such file" in files["none"].error
    assert files["y.mp4"] == File("https://x.org/y.mp4") and not found.away
    again = survey([str(paths["twin"])], known(replace(gone, content=files["twin"].content), videos[0]))
    assert again.away == {gone.path}


class Log:
    """What a store was asked to do."""

    def __init__(self):
        self.calls = []

    def rewrite(self, **options):
        self.calls.append(("rewrite", options))


def test_execute_rewrites_before_it_embeds_and_leaves_failures_out():
    store = Log()

    def embed(todo):
        store.calls.append(("embed", list(todo)))
        return [VideoDecodeError("/bad", "no video", "Leave it out."), VideoDecodeError("/b", "damaged", "Check it.")]

    before = VideoDecodeError("/away", "gone", "Wait.")
    change = Change(new=["/new", "/bad"], changed=["/b", "/c"], removed=["/d"], failures=[before])
    todo = dict.fromkeys(["/new", "/bad", "/b", "/c"], Todo())
    result = execute(Plan(change, todo, {"/e": A}, [("/f", B)]), store, embed)
    rewrite = {"removed": {"/b", "/c", "/d"}, "renamed": {"/e": A}, "copied": [("/f", B)]}
    assert store.calls == [("rewrite", rewrite), ("embed", list(todo))]
    assert (result.new, result.changed, result.removed) == (["/new"], ["/c"], ["/d"])
    assert [error.source for error in result.failures] == ["/away", "/bad", "/b"]


def test_execute_of_nothing_touches_nothing():
    store = Log()
    assert execute(Plan(Change(unchanged=["/a"])), store, pytest.fail).unchanged == ["/a"]
    assert store.calls == []
