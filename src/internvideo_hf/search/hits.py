"""The results of a search, and a contact sheet of them."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from internvideo_hf.data.thumbnails import TILE, thumbnail, tile
from internvideo_hf.search.calibration import Calibration
from internvideo_hf.utils.names import distinct_names
from internvideo_hf.utils.pictures import FONT_SIZE, GAP, LINE, PAPER, contact_sheet

OF_CAPTIONS = " of captions"
_MATCH = (20, 110, 50)  # RGB of the frame and the badge of a match


@dataclass(frozen=True)
class Hit:
    """A clip found by a search.

    Attributes:
        video: path or address of the video.
        start: where the clip begins, in seconds; None if the video has no times.
        end: where it ends.
        similarity: cosine of query and clip, -1 to 1.
        probability: softmax of the scaled cosines over the candidates, the thousand most similar clips: which one it
            is, given that it is one of them.
        z: standard deviations above the null captions, see `search.calibration`. This and the next three are None for
            queries by video or image, to which captions do not apply.
        share: fraction of the null captions that are less similar to this clip, 0-1.
        chance: clips of a gallery of this size expected to score as high by chance.
        matches: whether the clip is called a match, see `search.calibration`.
    """

    video: str
    start: float | None
    end: float | None
    similarity: float
    probability: float
    z: float | None = None
    share: float | None = None
    chance: float | None = None
    matches: bool | None = None

    @property
    def name(self) -> str:
        """File name of the video."""
        return os.path.basename(self.video.rstrip("/"))

    @property
    def time(self) -> str:
        """The span for display, such as `0:08-0:16`; empty without times."""
        return time_span(self.start, self.end)

    def thumbnail(self, size: tuple[int, int] = TILE) -> Image.Image:
        """Return the frame in the middle of the clip, scaled down to fit.

        Args:
            size: width and height in pixels.

        Raises:
            VideoDecodeError: if the video cannot be read.
        """
        return thumbnail(self.video, self.start, self.end, size)


@dataclass(frozen=True)
class Hits(Sequence[Hit]):
    """The results of one query.

    Attributes:
        query: the text, or the name of the video or image.
        hits: the results, best first.
        clips: number of clips searched.
        calibration: what the scores of a text query are compared with; None for queries by video or image.
        matches: whether any hit is a match; None for queries by video or image.
    """

    query: str
    hits: tuple[Hit, ...]
    clips: int
    calibration: Calibration | None = None
    matches: bool | None = field(init=False)

    def __post_init__(self) -> None:
        verdicts = [hit.matches for hit in self.hits if hit.matches is not None]
        object.__setattr__(self, "matches", any(verdicts) if verdicts else None)

    def __len__(self) -> int:
        return len(self.hits)

    def __getitem__(self, index: Any) -> Any:
        return self.hits[index]

    @property
    def verdict(self) -> str:
        """A sentence that explains `matches`; empty for queries by video or image."""
        rule = "" if self.calibration is None else self.calibration.rule
        if self.matches:
            return f"* matches: {rule}."
        if self.matches is None:
            return ""
        return (
            f"Nothing here matches: the nearest of {self.clips} clips has a cosine of {self.hits[0].similarity:.3f}. "
            f"A clip matches if {rule}. The nearest are:"
        )

    @property
    def explanation(self) -> str:
        """A sentence about each column of scores."""
        sentences = ["cosine: similarity of query and clip, -1 to 1."]
        if self.calibration is not None:
            sentences += [
                f"z: standard deviations by which it exceeds the clip's cosines with {len(self.calibration.captions)} "
                "captions that do not describe it (null captions).",
                "above: fraction of the null captions that are less similar to the clip.",
            ]
        sentences.append(
            "choice: probability that it is this clip, if it is one of the thousand nearest: their cosines' softmax."
        )
        return "\n".join(sentences)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: `query`, `clips`, `matches`, and `hits` with the attributes of each."""
        return {
            "query": self.query,
            "clips": self.clips,
            "matches": self.matches,
            "hits": [asdict(hit) for hit in self.hits],
        }


def montage(hits: Sequence[Hit], columns: int = 4, title: str | None = None) -> Image.Image:
    """Draw a contact sheet: the middle frame, file name, time and scores of each hit.

    A match has a frame and a badge that says so, a star before its name, and the word after its time; where captions
    apply, the others are labeled "no match".

    Args:
        hits: in order, row by row. A video that cannot be read any more leaves a gray tile that says so.
        columns: tiles per row.
        title: above the tiles.

    Raises:
        ValueError: if there are no hits, or no columns.
    """
    tiles = []
    names = distinct_names([hit.video for hit in hits])
    for number, hit in enumerate(hits):
        scores = scores_line(hit).removesuffix(OF_CAPTIONS)
        picture = tile(hit.video, hit.start, hit.end)
        if hit.matches:
            _mark_match(picture)
        verdict = {True: "match", False: "no match", None: ""}[hit.matches]
        time = ", ".join(filter(None, (hit.time, verdict)))
        tiles.append((picture, [f"{'* ' if hit.matches else ''}{number + 1}. {names[number]}", time, scores]))
    return contact_sheet(tiles, TILE, columns, title)


def _mark_match(picture: Image.Image) -> None:
    """Draw a frame and a badge with a tick and the word "match" on a picture."""
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(FONT_SIZE)
    draw.rectangle((0, 0, picture.width - 1, picture.height - 1), outline=_MATCH, width=4)
    tick = 14
    draw.rectangle((0, 0, 2 * GAP + tick + font.getlength("match"), LINE + GAP), fill=_MATCH)
    draw.line([(GAP, 13), (GAP + 4, 17), (GAP + 10, 8)], fill=PAPER, width=2)  # the font has no tick
    draw.text((GAP + tick, GAP // 2), "match", PAPER, font)


def scores_line(hit: Hit) -> str:
    """Return the scores of a hit for display."""
    if hit.z is None:
        return f"cosine {hit.similarity:.3f}"
    return f"cosine {hit.similarity:.3f}, z {hit.z:+.1f}, above {hit.share:.0%}{OF_CAPTIONS}"


def time_span(start: float | None, end: float | None) -> str:
    """Return a span for display, such as `0:08-0:16`; empty without times.

    Args:
        start: in seconds.
        end: in seconds.
    """
    return "" if start is None or end is None else f"{_clock(start)}-{_clock(end)}"


def _clock(seconds: float) -> str:
    # Tenths only if they are not zero.
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    second = f"{rest // 10:02d}" + (f".{rest % 10}" if rest % 10 else "")
    return f"{hours}:{minutes:02d}:{second}" if hours else f"{minutes}:{second}"
