"""Opening of video files: the one place that hands a file to FFmpeg, and what FFmpeg may do with it."""

import io
import re
from pathlib import Path

import av
import av.container

from internvideo_hf.utils.names import reason_of
from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.settings import ReadSettings
from internvideo_hf.video.sources import CHECK_THE_FILE, describe, first_bytes

# Demuxers that read one file and open no other. Left out on purpose: hls, dash, imf, concat, image2 (patterns of file
# names), mlv and vobsub (files beside the named one), sdp, rtsp and lavfi.
_DEMUXERS = (
    *("mov", "matroska", "avi", "flv", "live_flv", "kux", "asf", "asf_o", "ogg", "rm", "swf", "nut", "nsv", "wtv"),
    *("mpegts", "mpegtsraw", "mpeg", "mpegvideo", "pva", "ty", "dhav", "dv", "mxf", "gxf", "lxf", "avs", "flic"),
    *("h261", "h263", "h264", "hevc", "vvc", "evc", "av1", "obu", "ivf", "m4v", "vc1", "vc1test", "dirac", "dnxhd"),
    *("cavsvideo", "avs2", "avs3", "apv", "mjpeg", "mpjpeg", "smjpeg", "mjpeg_2000", "yuv4mpegpipe", "cine", "hxvs"),
    *("gif", "apng", "webp", "jpegxl_anim", "bmp_pipe", "dpx_pipe", "exr_pipe", "gif_pipe", "j2k_pipe", "jpeg_pipe"),
    *("jpegls_pipe", "jpegxl_pipe", "pam_pipe", "pbm_pipe", "pcx_pipe", "pgm_pipe", "png_pipe", "ppm_pipe"),
    *("psd_pipe", "qoi_pipe", "sgi_pipe", "sunrast_pipe", "tiff_pipe", "webp_pipe"),
    # No videos, but each has a message of its own.
    *("mp3", "wav", "w64", "flac", "aac", "ac3", "eac3", "aiff", "amr", "ape", "caf", "tty", "svg_pipe"),
)
_PLAYLIST = re.compile(rb"#EXTM3U|#EXT-X-|ffconcat version|\[playlist\]|<smil|(<\?xml.*?)?<MPD\b", re.I | re.S)
_PATTERN = re.compile(r"%\d*d")
_PROBED_BYTES = 1 << 20  # the most that FFmpeg reads to find out the format
# First bytes of the containers that other decoders than PyAV are handed, as (offset, bytes).
_SIGNATURES = (
    *((4, name) for name in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")),
    *((0, magic) for magic in (b"\x1aE\xdf\xa3", b"RIFF", b"FLV", b"OggS", b"0&\xb2u", b"GIF8", b"\x89PNG")),
    *((0, magic) for magic in (b"YUV4MPEG2", b"DKIF", b"nut/", b"\x06\x0e+4", b".RMF")),
)
_VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".flv", ".wmv", ".3gp", ".ogv")
_REFUSED = "FFmpeg cannot open it as a video"
_PASS_THE_VIDEO = "Pass the path or the address of the video itself."


def open_container(
    file: str | Path | bytes, label: str | None = None, settings: ReadSettings | None = None
) -> av.container.InputContainer:
    """Open a video file in FFmpeg, which reads this file and no other.

    The format is found out from the content, and refused before the demuxer sees it if it is one that refers to other
    files or addresses: playlists, lists of files, patterns of file names.

    Args:
        file: absolute path, or the file's bytes.
        label: name of the source for messages; that of the file where None.
        settings: limits; those of the process where None.

    Raises:
        VideoDecodeError: if FFmpeg cannot open it, or may not.
    """
    label = describe(file) if label is None else label
    source = io.BytesIO(file) if isinstance(file, bytes) else str(file)
    protocols = "" if isinstance(file, bytes) else "file"
    options = {"format_whitelist": ",".join(_DEMUXERS), "protocol_whitelist": protocols}
    try:
        # FFmpeg decodes a frame to find out the format, so the limit of its size is needed from the start.
        limits = {"max_pixels": str((settings or ReadSettings.default()).max_pixels)}
        return av.open(source, "r", options=limits, container_options=options, metadata_errors="replace")
    except (av.FFmpegError, ValueError, IndexError) as error:
        if isinstance(error, av.ArgumentError | av.InvalidDataError):
            _refuse_references(file, label)
        cause, advice = f"FFmpeg cannot open it ({reason_of(error)})", CHECK_THE_FILE
        if isinstance(error, av.ArgumentError):  # of a damaged file, too
            advice = f"If it is whole, convert it to MP4: its format is none of those that are read. {CHECK_THE_FILE}"
        if first_bytes(file, 8)[4:] == b"ftyp":
            cause = f"{cause}; it begins like an MP4, but its index (`moov`) is missing or broken"
            advice = "It was cut off or is still being written: copy or download it again."
        raise VideoDecodeError(label, cause, advice) from error


def check_for_other_decoders(file: Path | bytes, label: str, decoder: str) -> None:
    """Refuse a file that an FFmpeg other than PyAV's may take for a playlist: it has no allow-list of formats.

    Args:
        file: absolute path, or the file's bytes.
        label: name of the source for messages.
        decoder: name of the backend.

    Raises:
        VideoDecodeError: if the content is not surely that of one container, or the name is a pattern.
    """
    head = first_bytes(file, _PROBED_BYTES)
    _refuse_references(file, label)
    known = any(head.startswith(magic, offset) for offset, magic in _SIGNATURES)
    text = head.lower()  # FFmpeg searches the whole of it for the marks of these two
    if not known or (b"<mpd" in text and b"dash:profile" in text) or b"<compositionplaylist" in text:
        cause = f"its format is none of those that {decoder} is given"
        raise VideoDecodeError(label, cause, 'Use `backend="pyav"` for this file.')


def _refuse_references(file: str | Path | bytes, label: str) -> None:
    if not isinstance(file, bytes):
        name = Path(file)
        if _PATTERN.search(name.name) and name.suffix.lower() not in _VIDEO_SUFFIXES:
            cause = f"{_REFUSED}: its name is a pattern (`%d`) that stands for other files"
            raise VideoDecodeError(label, cause, "Rename it; pass frame files as a folder.")
    if _PLAYLIST.match(first_bytes(file, 4096).lstrip(b"\xef\xbb\xbf \t\r\n")):
        raise VideoDecodeError(label, f"{_REFUSED}: it is a playlist, which refers to other files", _PASS_THE_VIDEO)
