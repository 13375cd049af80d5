"""Videos of many containers, codecs and oddities, written by the `ffmpeg` command, which also says what they show."""

import shutil
import subprocess
from pathlib import Path

import numpy as np

HEIGHT, WIDTH = 96, 128
_SOURCE = ("-f", "lavfi", "-i", f"testsrc2=size={WIDTH}x{HEIGHT}:rate=25:duration=1")
_X264 = "-c:v libx264 -preset veryfast -g 9"
_X265 = "-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=9"
_VFR = "-vf setpts='N+N*N/9' -fps_mode passthrough"

# Encoders, and the containers into which each is written.
ENCODED = {
    "h264": (f"{_X264} -bf 0", "mp4 mov mkv avi ts flv nut h264 3gp"),
    "h264-b": (f"{_X264} -bf 3", "mp4 mov mkv avi ts flv nut h264 mxf asf"),
    "h264-intra": ("-c:v libx264 -g 1", "mp4 mkv avi ts"),
    "h264-open": (f"{_X264} -bf 3 -x264-params open-gop=1:scenecut=0", "mp4 mkv avi ts"),
    "h264-refresh": (f"{_X264} -x264-params intra-refresh=1", "mp4 mkv ts"),
    "h264-444": (f"{_X264} -pix_fmt yuv444p -bf 2", "mp4 mkv"),
    "h264-fields": (f"{_X264} -flags +ildct+ilme -bf 2", "mp4 mkv ts"),
    "h264-vfr": (f"{_VFR} {_X264} -bf 2", "mp4 mkv ts flv"),
    "hevc": (f"{_X265}:bframes=0", "mp4 mkv ts hevc"),
    "hevc-b": (f"{_X265}:bframes=3", "mp4 mkv ts hevc"),
    "mpeg4": ("-c:v mpeg4 -q:v 3 -g 9", "mp4 mov mkv avi nut ts m4v"),
    "mpeg4-b": ("-c:v mpeg4 -q:v 3 -g 9 -bf 2", "mp4 mkv avi nut ts m4v"),
    "xvid": ("-c:v libxvid -q:v 3 -g 9", "avi mkv"),
    "xvid-packed": ("-c:v libxvid -q:v 3 -g 9 -bf 1", "avi"),
    "xvid-packed-2": ("-c:v libxvid -q:v 3 -g 12 -bf 2", "avi"),
    "mpeg2": ("-c:v mpeg2video -q:v 3 -g 9", "mpg ts mkv avi m2v vob"),
    "mpeg2-b": ("-c:v mpeg2video -q:v 3 -g 9 -bf 2", "mpg ts mkv avi m2v vob mxf"),
    "mpeg1": ("-c:v mpeg1video -q:v 3 -g 9 -bf 2", "mpg avi"),
    "msmpeg4": ("-c:v msmpeg4 -q:v 3", "avi asf mkv"),
    "wmv2": ("-c:v wmv2 -q:v 3", "asf avi mkv"),
    "h263": ("-s 176x144 -c:v h263p -q:v 3 -g 9", "avi mov mkv"),
    "flv1": ("-c:v flv1 -q:v 3", "flv avi"),
    "mjpeg": ("-c:v mjpeg -q:v 3", "avi mov mkv nut"),
    "vp8": ("-c:v libvpx -deadline realtime -auto-alt-ref 1 -lag-in-frames 9 -b:v 1M", "webm avi ivf"),
    "vp9": ("-c:v libvpx-vp9 -deadline realtime -cpu-used 8", "webm mp4 ivf"),
    "vp9-hidden": ("-c:v libvpx-vp9 -cpu-used 8 -auto-alt-ref 1 -lag-in-frames 12", "webm mp4"),
    "av1": ("-c:v libsvtav1 -preset 10 -g 9", "mp4 mkv webm ivf"),
    "theora": ("-c:v libtheora -q:v 8", "ogv mkv"),
    "prores": ("-c:v prores_ks", "mov"),
    "ffv1": ("-c:v ffv1", "mkv avi"),
    "huffyuv": ("-c:v ffvhuff -pix_fmt yuv420p", "avi mkv"),
    "raw": ("-c:v rawvideo -pix_fmt yuv420p", "avi nut mkv"),
    "qtrle": ("-c:v qtrle", "mov"),
    "png": ("-c:v png -pix_fmt rgb24", "mov avi"),
    "gif": ("", "gif"),
}
# Videos made of others by copying packets: (source, options of the copy, ending).
COPIED = {
    "packed in mp4": ("xvid-packed.avi", "", "mp4"),
    "packed in mkv": ("xvid-packed.avi", "-fflags +genpts", "mkv"),
    "unpacked": ("xvid-packed.avi", "-bsf:v mpeg4_unpack_bframes", "avi"),
    "avi's times in mp4": ("h264-b.avi", "", "mp4"),
    "doubled times": ("h264.mkv", "-bsf:v setts=pts=floor(PTS/80)*80:dts=floor(DTS/80)*80", "mkv"),
    "doubled times with B-frames": ("h264-b.mkv", "-bsf:v setts=pts=floor(PTS/80)*80", "mkv"),
    "times in the order of decoding": ("h264-b.mp4", "-bsf:v setts=pts=DTS", "mp4"),
    "times in the order of decoding, MPEG-4": ("mpeg4-b.mp4", "-bsf:v setts=pts=DTS", "mkv"),
    "a shifted begin": ("h264-b.mp4", "-output_ts_offset 3", "mkv"),
    "an edit list": ("h264-b.mp4", "-ss 0.5", "mp4"),
    "cut within an open group": ("h264-open.mkv", "-ss 0.4", "mkv"),
    "dropped packets": ("mjpeg.avi", "-bsf:v noise=drop=eq(mod(n\\,5)\\,3)", "mkv"),
}
JOINED = {
    "two streams": ("h264-b.ts", "h264-b.ts"),
    "two sizes": ("h264.ts", "large.ts"),
}
_PIXELS = {"mjpeg": "-pix_fmt yuvj420p", **dict.fromkeys(("gif", "prores", "qtrle"), "")}


def names() -> list[str]:
    """Return the name of every video."""
    encoded = [f"{name}.{suffix}" for name, (_, suffixes) in ENCODED.items() for suffix in suffixes.split()]
    return [*encoded, *COPIED, *JOINED]


def make(name: str, folder: Path) -> Path:
    """Write one of the videos, unless it is there, and return its path."""
    suffix = {**{key: row[2] for key, row in COPIED.items()}, **dict.fromkeys(JOINED, "ts")}.get(name)
    path = folder / (name if suffix is None else f"{name.replace(' ', '_')}.{suffix}")
    if path.exists():
        return path
    if name in COPIED:
        source, options, _ = COPIED[name]
        before = options.split() if "fflags" in options or "-ss" in options else []
        after = [] if before else options.split()
        _ffmpeg(*before, "-i", make(source, folder), "-c", "copy", *after, path)
    elif name in JOINED:
        path.write_bytes(b"".join(make(part, folder).read_bytes() for part in JOINED[name]))
    elif name == "large.ts":
        _ffmpeg(*_SOURCE, "-s", "192x144", *_X264.split(), path)
    else:
        kind, _, suffix = name.rpartition(".")
        options = ENCODED[kind][0].replace("'", "")
        pixels = _PIXELS.get(kind, "" if "pix_fmt" in options else "-pix_fmt yuv420p")
        _ffmpeg(*_SOURCE, *options.split(), *pixels.split(), *(("-f", "vob") if suffix == "vob" else ()), path)
    return path


def shown(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Return the frames that the `ffmpeg` command shows."""
    flags = "-fps_mode passthrough -f rawvideo -pix_fmt rgb24 -sws_flags bicubic -".split()
    raw = subprocess.run(["ffmpeg", "-v", "error", "-i", path, *flags], capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, *shape)


def has_ffmpeg() -> bool:
    """Return whether the `ffmpeg` command is there."""
    return shutil.which("ffmpeg") is not None


def _ffmpeg(*arguments: object) -> None:
    subprocess.run(["ffmpeg", "-y", "-v", "error", *map(str, arguments)], check=True, capture_output=True)
