"""Load on `internvideo serve`: many clients, good and bad requests, memory, and what batches are worth.

python benchmarks/serving.py soak [--requests 3840] [--clients 64]
python benchmarks/serving.py batching [--seconds 20] [--rounds 3] [--model demo-mm]

soak: each client sends one request after the other, most with videos, one in six bad in some way, and each has the one
status that it deserves. 3840 are what 64 clients send in ten minutes that think for ten seconds before each; here they
think for none. Every ten seconds a decoder is killed, as a video may do. Memory is that of all processes. Then one
client sends one request at a time, for comparison; and at last more clients come, and with larger files, than the
limits of the service allow, so that some are to be told to come again (429).
batching: the same good requests by one client and by many, to services with batches of 8 and of 1, in turns.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from internvideo_hf.demo.tour import draw_clips

MAX_MB = 2
GONE = 499  # no status, but that of a client that went


@dataclass(frozen=True)
class Kind:
    """A kind of request.

    Args:
        weight: how often it comes.
        status: that it deserves.
        build: returns path and content of one, for a random number generator.
        patience: seconds after which its client goes.
    """

    weight: int
    status: int
    build: Callable[[random.Random], tuple[str, dict[str, Any]]]
    patience: float | None = None


def upload(content: bytes, **request: Any) -> dict[str, Any]:
    """Return the content of a request with a file."""
    return {"files": {"file": ("clip.mp4", content)}, "data": {"request": json.dumps(request)}}


def part(url: str) -> dict[str, Any]:
    """Return a content part."""
    return {"type": "video_url", "video_url": {"url": url}}


def kinds_of(clips: list[bytes]) -> dict[str, Kind]:
    """Return the kinds of requests by name."""
    labels = ["a red heart", "a green cross", "a blue circle"]
    damaged = [clip[:100] + bytes(len(clip) - 100) for clip in clips]

    def bad(path: str, status: int, content: Callable[[random.Random], dict[str, Any]]) -> Kind:
        return Kind(2, status, lambda draw: (path, content(draw)))

    return {
        "video": Kind(24, 200, lambda draw: ("embeddings", upload(draw.choice(clips)))),
        "labels": Kind(24, 200, lambda draw: ("classify", upload(draw.choice(clips), labels=labels))),
        "text": Kind(12, 200, lambda draw: ("embeddings", {"json": {"input": f"a clip of {draw.random()}"}})),
        "damaged video": bad("embeddings", 422, lambda draw: upload(draw.choice(damaged))),
        "no video": bad("classify", 422, lambda draw: upload(draw.randbytes(5000), labels=labels)),
        "own network": bad("embeddings", 422, lambda draw: {"json": {"input": part("http://127.0.0.1:9/a.mp4")}}),
        "file of the server": bad("embeddings", 400, lambda draw: {"json": {"input": part("file:///etc/passwd")}}),
        "too large": bad("embeddings", 413, lambda draw: upload(bytes(MAX_MB * 3_000_000))),
        "unknown field": bad("classify", 400, lambda draw: upload(draw.choice(clips), lables=labels)),
        "client that goes": Kind(2, GONE, lambda draw: ("embeddings", upload(draw.choice(clips))), 0.05),
    }


@contextlib.contextmanager
def service(model: str, *options: str) -> Iterator[tuple[str, psutil.Process]]:
    """Run the command, and give its address and process."""
    command = [
        sys.executable,
        "-m",
        "internvideo_hf",
        "serve",
        model,
        "--port",
        "0",
        "--max-mb",
        str(MAX_MB),
        *options,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://[\w.]+:\d+", line)
        assert found, f"it does not serve: {line}"
        yield found[0], psutil.Process(process.pid)
    finally:
        process.terminate()
        assert process.wait(120) == 0, "it did not end well"


@dataclass
class Load:
    """What clients have seen.

    Args:
        seconds: times of good requests.
        statuses: counts by kind and status.
        wall: seconds in all.
        undeserved: answers that no request of its kind deserves.
    """

    seconds: list[float]
    statuses: Counter[tuple[str, int]]
    wall: float
    undeserved: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Good requests a second."""
        return len(self.seconds) / self.wall


class Client:
    """One connection, by which a request costs less than by any library: the clients share the cores of the service.

    Args:
        address: of the service.
    """

    def __init__(self, address: str):
        self._host, self._port = address.removeprefix("http://").split(":")
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, path: str, content: dict[str, Any]) -> tuple[int, bytes]:
        """Send a request, and return status and body of its answer; 0 if the connection is lost."""
        request = httpx.Request("POST", f"http://{self._host}:{self._port}/v1/{path}", **content)
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        try:
            self._streams = self._streams or await asyncio.open_connection(self._host, int(self._port))
            reader, writer = self._streams
            writer.write(f"POST /v1/{path} HTTP/1.1\r\n{head}\r\n".encode() + request.read())
            with contextlib.suppress(ConnectionError):  # it may refuse before all is sent
                await writer.drain()
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = re.search(rb"content-length: (\d+)", answer)
            body = await (reader.readexactly(int(length[1])) if length else reader.read())
        except (ConnectionError, asyncio.IncompleteReadError):
            self.close()
            return 0, b""
        if b"connection: close" in answer:
            self.close()
        return int(answer.split(b" ")[1]), body

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


async def load(
    address: str, kinds: dict[str, Kind], clients: int, duration: float, seed: int = 0, requests: int | None = None
) -> Load:
    """Send requests from many clients for some time, or a number of them."""
    names, weights = list(kinds), [kind.weight for kind in kinds.values()]
    result, begin = Load([], Counter(), 0), time.perf_counter()
    remaining = itertools.count() if requests is None else iter(range(requests))

    async def go(number: int) -> None:
        draw, client = random.Random(seed * 1000 + number), Client(address)
        while time.perf_counter() < begin + duration and next(remaining, None) is not None:
            name = draw.choices(names, weights)[0]
            path, content = kinds[name].build(draw)
            sent = time.perf_counter()
            try:
                status, body = await asyncio.wait_for(client.send(path, content), kinds[name].patience)
            except TimeoutError:
                client.close()
                status, body = GONE, b""
            result.statuses[name, status] += 1
            if status not in (kinds[name].status, 200 if kinds[name].status == GONE else None):
                result.undeserved.append(f"{name}: {status} {body.decode()[:300]}")
            if status == kinds[name].status == 200:
                result.seconds.append(time.perf_counter() - sent)
        client.close()

    await asyncio.gather(*map(go, range(clients)))
    result.wall = time.perf_counter() - begin
    return result


def memory(process: psutil.Process) -> dict[str, float]:
    """Return the memory of a service's own process and of all its processes, in MB."""
    children = process.children(recursive=True)
    of_children = 0
    for child in children:
        with contextlib.suppress(psutil.Error):
            of_children += child.memory_info().rss
    own = process.memory_info().rss
    return {"own": own / 1e6, "all": (own + of_children) / 1e6, "files": process.num_fds()}


async def watch(process: psutil.Process, work: "asyncio.Task[Load]", found: list[dict[str, float]]) -> None:
    """Note the memory every two seconds, and kill a decoder every ten."""
    for turn in itertools.count(1):
        await asyncio.wait((work,), timeout=2)
        if work.done():
            return
        found.append(memory(process))
        # Those of the process that is copied for each.
        decoders = [child for child in process.children(recursive=True) if child.ppid() != process.pid]
        if turn % 5 == 0 and decoders:
            with contextlib.suppress(psutil.Error):
                random.choice(decoders).kill()


def print_statuses(result: Load, kinds: dict[str, Kind]) -> None:
    """Print what each kind of request got."""
    print("\n| request | deserves | got it | got others |\n|---|---:|---:|---|")
    for name, kind in kinds.items():
        got = {status: count for (own, status), count in result.statuses.items() if own == name}
        right = got.pop(kind.status, 0)
        print(f"| {name} | {kind.status} | {right} | {got or 'none'} |")
    print("".join(f"\n{line}" for line in result.undeserved))


def print_times(what: str, result: Load) -> None:
    """Print rate and times of good requests."""
    ordered = sorted(result.seconds)
    p50, p95 = statistics.median(ordered), ordered[int(0.95 * len(ordered))]
    print(f"{what}: {result.rate:.1f} good requests/s, p50 {p50:.3f} s, p95 {p95:.3f} s")


def soak(clips: list[bytes], requests: int, clients: int, model: str) -> None:
    """Print what a mixed load sees, and what it takes."""
    kinds, found = kinds_of(clips), []
    good_kinds = {name: kind for name, kind in kinds.items() if kind.status == 200}
    with service(model) as (address, process):

        async def go() -> Load:
            await load(address, kinds, clients, 15, seed=1)  # the first ones, not counted
            work = asyncio.ensure_future(load(address, kinds, clients, 3600, requests=requests))
            await watch(process, work, found)
            return await work

        result = asyncio.run(go())
        one = asyncio.run(load(address, good_kinds, 1, 20, seed=2))
        many = asyncio.run(load(address, good_kinds, clients, 20, seed=3))
    good, bad = len(result.seconds), sum(result.statuses.values()) - len(result.seconds)
    print(f"{good} good and {bad} bad requests in {result.wall:.0f} s by {clients} clients")
    print_statuses(result, kinds)
    print_times("mixed load", result)
    print_times("good ones only, one at a time", one)
    print_times(f"good ones only, {clients} clients", many)
    print("\n| part of the time | own process, MB | all processes, MB | open files |\n|---|---:|---:|---:|")
    for fraction in range(4):
        quarter = found[len(found) * fraction // 4 : len(found) * (fraction + 1) // 4]
        middle = {name: statistics.median(entry[name] for entry in quarter) for name in ("own", "all", "files")}
        print(f"| quarter {fraction + 1} | {middle['own']:.0f} | {middle['all']:.0f} | {middle['files']:.0f} |")


def overload(clips: list[bytes], clients: int, model: str) -> None:
    """Print what requests beyond the limits get: those of the queue, and those of all bytes together."""
    some = {"video": Kind(1, 200, lambda draw: ("embeddings", upload(draw.choice(clips))))}
    large = {"large file, no video": Kind(1, 422, lambda draw: ("embeddings", upload(bytes(MAX_MB * 950_000))))}
    for what, kinds, options in (("queue", some, ("--max-queue", str(clients // 4))), ("bytes", large, ())):
        with service(model, *options) as (address, _):
            result = asyncio.run(load(address, kinds, clients, 8))
            after = asyncio.run(load(address, kinds, 1, 1))
        print(f"\nmore than the limit of {what}: {dict(result.statuses)}; one client after it: {dict(after.statuses)}")
        (kind,) = kinds.values()
        statuses = {status for _, status in result.statuses}
        assert statuses == {kind.status, 429}, f"expected answers and 429: {result.undeserved[:3]}"
        assert {status for _, status in after.statuses} == {kind.status}, after.undeserved[:3]


def processor_time(process: psutil.Process) -> tuple[float, float]:
    """Return the seconds that a service's own process and its decoders have computed."""
    own = process.cpu_times()
    children = [child.cpu_times() for child in process.children(recursive=True)]
    return own.user + own.system, sum(child.user + child.system for child in children)


def batching(clips: list[bytes], seconds: float, rounds: int, clients: int, model: str) -> None:
    """Print what batches are worth, for good requests of each kind."""
    kinds = {name: kind for name, kind in kinds_of(clips).items() if kind.status == 200}
    if model == "demo-classifier":
        kinds = {"own labels": Kind(1, 200, lambda draw: ("classify", upload(draw.choice(clips))))}
    seen: dict[tuple[str, str], list[Load]] = {}
    work: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with service(model, "--batch-size", "8") as together, service(model, "--batch-size", "1") as alone:
        one, apart, batched = "one client", f"{clients} clients, batches of 1", f"{clients} clients, batches of 8"
        ways = {one: (*together, 1), apart: (*alone, clients), batched: (*together, clients)}
        for number in range(rounds + 1):  # the first round is not counted
            for (name, kind), (way, (address, process, count)) in itertools.product(kinds.items(), ways.items()):
                before = processor_time(process)
                result = asyncio.run(load(address, {name: kind}, count, seconds if number else 5, seed=number))
                assert set(result.statuses) == {(name, 200)}, result.statuses
                if number:
                    seen.setdefault((name, way), []).append(result)
                    used = zip(processor_time(process), before, strict=True)
                    work.setdefault((name, way), []).append(tuple(now - then for now, then in used))  # type: ignore[arg-type]
        text = httpx.get(f"{together[0]}/metrics").text
    print("| request | way | requests/s, each round | p50, s | p95, s | CPU of a request, ms: service + decoders |")
    print("|---|---|---|---:|---:|---:|")
    for (name, way), own in seen.items():
        times = sorted(second for one_load in own for second in one_load.seconds)
        shown = ", ".join(f"{one_load.rate:.0f}" for one_load in own)
        p50, p95 = statistics.median(times), times[int(0.95 * len(times))]
        parts = [1000 * sum(part) / len(times) for part in zip(*work[name, way], strict=True)]
        print(f"| {name} | {way} | {shown} | {p50:.3f} | {p95:.3f} | {parts[0]:.1f} + {parts[1]:.1f} |")
    print("\n| request | requests/s: 8 to one client | 8 to 1 | CPU: 1 to 8 | CPU of the service alone: 1 to 8 |")
    print("|---|---:|---:|---:|---:|")
    for name in kinds:
        rates = {way: [one_load.rate for one_load in seen[name, way]] for way in ways}
        ratios = [
            statistics.median(a / b for a, b in zip(rates[batched], rates[way], strict=True)) for way in (one, apart)
        ]
        cpu = {}
        for way in (apart, batched):
            answered = sum(len(one_load.seconds) for one_load in seen[name, way])
            cpu[way] = [sum(part) / answered for part in zip(*work[name, way], strict=True)]
        ratios += [sum(cpu[apart]) / sum(cpu[batched]), cpu[apart][0] / cpu[batched][0]]
        print(f"| {name} | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |")
    calls, items = (float(re.search(rf"batch_items_{word} (\S+)", text)[1]) for word in ("count", "sum"))  # type: ignore[index]
    print(f"\nmean batch of the service with batches of 8, all ways together: {items / calls:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("soak", "batching"))
    parser.add_argument("--requests", type=int, default=3840)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--model", default="demo-mm")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        drawn = draw_clips(Path(folder), 24, seed=1)
        clips = [(Path(folder) / clip.video).read_bytes() for clip in drawn]
    if arguments.what == "soak":
        soak(clips, arguments.requests, arguments.clients, arguments.model)
        overload(clips, arguments.clients, arguments.model)
    else:
        batching(clips, arguments.seconds, arguments.rounds, arguments.clients, arguments.model)


if __name__ == "__main__":
    main()
