"""Commands that prepare videos for training: `scan`, `shrink`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from internvideo_hf.cli.options import (
    OR_STORED,
    OR_STORED_OUTPUT,
    Address,
    DataRoot,
    EngineName,
    Jobs,
    Quiet,
    Retry,
    VideoTimeout,
    check_folder,
    decoders,
)
from internvideo_hf.cli.reporting import remarks, report_failures, say
from internvideo_hf.utils.storage import StoragePath, as_path


def scan(
    videos: Annotated[
        list[str], typer.Argument(help=f"Lists of videos (csv, json, ...), files, folders, URLs; {OR_STORED}.")
    ],
    data_root: DataRoot = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Decode every frame, not only the first, middle and last.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help=f"JSON file for the bad videos, such as bad.json; {OR_STORED_OUTPUT}.")
    ] = None,
    jobs: Jobs = None,
    video_timeout: VideoTimeout = None,
    engine: EngineName = "local",
    address: Address = None,
    retry: Retry = False,
    quiet: Quiet = False,
) -> None:
    """Find missing and damaged videos before training.

    Exit code 1 if some are bad, 2 if all are. Beside --out, OUT.failures.jsonl has a row for each, and the next scan
    into the same file passes over those that kill or hang their decoder.

    Example: internvideo scan train.csv --data-root kinetics400 --out bad.json
    """
    from tqdm import tqdm

    from internvideo_hf.data.failures import FailureTable
    from internvideo_hf.data.folders import find_videos
    from internvideo_hf.data.verification import verify_videos, write_report
    from internvideo_hf.utils.files import check_output_file
    from internvideo_hf.video.sources import is_url

    place = None if out is None else as_path(out)
    if place is not None:
        check_output_file(place)
    found = find_videos(videos, data_root, on_left_out=remarks(quiet))
    workers = decoders(engine, address, jobs, len(found))
    if engine == "ray":
        found = [video if is_url(video) else os.path.abspath(video) for video in found]
    with (
        FailureTable.beside(place, "scan", retry=retry) as failures,
        tqdm(total=len(found), desc="Scanning", unit="video", disable=quiet) as bar,
    ):
        rest, held = failures.divide(found)
        bar.update(len(held))
        calls = {"on_done": bar.update, "on_failed": failures.add}
        bad = [*held.values(), *verify_videos(rest, whole=whole, timeout=video_timeout, **calls, **workers)]
    if place is not None:
        write_report(place, len(found), bad)
    if not quiet:
        say(f"{len(found) - len(bad)} of {len(found)} videos are readable.")
    report_failures([str(error) for error in bad], len(found))


def shrink(
    videos: Annotated[
        list[str], typer.Argument(help=f"Lists of videos (csv, json, ...), files, folders; {OR_STORED}.")
    ],
    out: Annotated[
        Path, typer.Option(help=f"Folder for the small videos, {OR_STORED_OUTPUT}; relative paths stay the same.")
    ],
    data_root: DataRoot = None,
    short_side: Annotated[int, typer.Option(min=16, help="Pixels of the shorter side; nothing is enlarged.")] = 320,
    keyframe_interval: Annotated[int, typer.Option(min=1, help="Frames between keyframes.")] = 12,
    quality: Annotated[int, typer.Option(min=0, max=51, help="x264 rate factor; lower is better and larger.")] = 23,
    jobs: Jobs = None,
    video_timeout: VideoTimeout = None,
    engine: EngineName = "local",
    address: Address = None,
    retry: Retry = False,
    quiet: Quiet = False,
) -> None:
    """Re-encode videos for training: small, fast to seek in, without sound.

    H.264 cannot be decoded at a reduced size: training decodes whole frames, however small its crops are. Videos that
    were shrunk once save this in every epoch.

    Resumable: rerun the same command after an interruption. All outputs end in .mp4 (H.264). Videos that fail are rows
    of failures.jsonl in OUT.

    Example: internvideo shrink train.csv --data-root kinetics400 --out kinetics400-320
    """
    from tqdm import tqdm

    from internvideo_hf.data.failures import FailureTable
    from internvideo_hf.data.folders import check_some_exist, find_videos
    from internvideo_hf.data.transcoding import TranscodeSettings, targets_of, transcode_videos, videos_there
    from internvideo_hf.video.sources import is_url

    settings, folder = TranscodeSettings(short_side, keyframe_interval, quality), as_path(out)
    check_folder(folder)
    found = find_videos(videos, data_root, on_left_out=remarks(quiet))
    check_some_exist(found)
    workers = decoders(engine, address, jobs, len(found))
    if engine == "ray":
        found = [video if is_url(video) else os.path.abspath(video) for video in found]
        folder = folder.absolute()
    targets = targets_of(found, folder, data_root)
    there = videos_there(folder, targets.values(), settings) if isinstance(folder, StoragePath) else set()
    with (
        FailureTable(folder / "failures.jsonl", "shrink", retry=retry) as failures,
        tqdm(total=len(targets), desc="Shrinking", unit="video", disable=quiet) as bar,
    ):
        rest, held = failures.divide(targets)
        some = {video: targets[video] for video in rest if targets[video] not in there}
        bar.update(len(targets) - len(some))
        calls = {"on_done": bar.update, "on_failed": failures.add}
        existing, failed = transcode_videos(some, settings, timeout=video_timeout, **calls, **workers)
    failed = [*map(str, held.values()), *failed]
    existing += len(there)
    if not quiet:
        new = len(targets) - existing - len(failed)
        say(f"Wrote {new} videos to {folder}; {existing} already existed.")
    report_failures(failed, len(targets))
