"""Annotated frames: Ego4D's state-change object detection (fho_scod_*.json, v1 and v2), and COCO's layout."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from internvideo_hf.data.ego4d import frame_of, list_in, list_of, number_of, text_of
from internvideo_hf.data.layouts import Record
from internvideo_hf.data.records import ManifestError, are_numbers, read_json
from internvideo_hf.tasks.protocol import FrameData

Box = tuple[float, float, float, float]
MOMENTS = ("pre_frame", "pnr_frame", "post_frame")
"""Frames of a clip: before the change, at the point of no return, after the change."""


@dataclass(frozen=True)
class Frame:
    """One annotated frame.

    Args:
        image: its number: that of COCO's file, or counted from 1 in the order of Ego4D's.
        video: id of the whole video, or the file of the frame.
        moment: which of its clip's frames it is; "" in COCO's layout.
        number: of the frame in the whole video, from 0.
        clip: id of the exported clip, if known.
        clip_id: another id of the clip, by which images are named, if known.
        clip_number: of the frame in the exported clip, from 0, if known.
        file: of the frame, below the folder of frames, if it is named.
        width: of the frame as annotated, pixels; None if unknown.
        height: of the frame as annotated, pixels; None if unknown.
        boxes: of the objects, each left, top, width, height in pixels; None for a frame that is not annotated.
    """

    image: int
    video: str
    moment: str = ""
    number: int = 0
    clip: str | None = None
    clip_id: str | None = None
    clip_number: int | None = None
    file: str | None = None
    width: int | None = None
    height: int | None = None
    boxes: tuple[Box, ...] | None = None

    @property
    def name(self) -> str:
        """What the frame is called in messages."""
        return self.file or f"{self.video}, frame {self.number}"


def read_frames(path: str | Path, data: FrameData) -> list[Frame]:
    """Read annotated frames.

    Args:
        path: Ego4D's fho_scod_train.json, fho_scod_val.json or fho_scod_test_unannotated.json; or COCO's layout, with
            "images", "annotations" and "categories".
        data: which frames and which objects count.

    Raises:
        ManifestError: if the file or one of its entries lacks something, or no frame is left.
    """
    document = read_json(Path(path))
    is_coco = isinstance(document, dict) and "clips" not in document and "images" in document
    frames = list(_of_coco(document, path, data) if is_coco else _of_ego4d(document, path, data))
    if not frames:
        cause = "it has no image" if is_coco else f"it has no frame of {', '.join(data.moments)}"
        advice = "Check that it is a file of state-change object detection, such as fho_scod_val.json."
        raise ManifestError(str(path), None, cause, advice)
    return frames


def _of_ego4d(document: Any, path: str | Path, data: FrameData) -> Iterator[Frame]:
    image = 0
    for number, clip in enumerate(list_in(document, "clips", path), 1):
        where: dict[str, Any] = {"file": path, "place": f"clip {number}"}
        names: dict[str, Any] = {
            "video": text_of(clip, "video_uid", "video_id", **where),
            "clip": None if clip.get("clip_uid") is None else text_of(clip, "clip_uid", **where),
            "clip_id": None if clip.get("clip_id") is None else str(clip["clip_id"]),
        }
        for moment in data.moments:
            entry = clip.get(moment)
            if entry is None:
                continue
            inner = {**where, "place": f"clip {number}, {moment}"}
            if not isinstance(entry, dict):
                cause = f"it is {entry!r:.60}, expected an object"
                raise ManifestError(str(path), inner["place"], cause, "Download the file again.")
            image += 1
            clip_number = entry.get("clip_frame_number")
            yield Frame(
                image,
                moment=moment,
                number=frame_of(entry, "frame_number", **inner),
                clip_number=None if clip_number is None else frame_of(entry, "clip_frame_number", **inner),
                width=_length(entry, "width", inner),
                height=_length(entry, "height", inner),
                boxes=_boxes(entry, data.object_type, inner),
                **names,
            )


def _length(entry: Record, name: str, where: Mapping[str, Any]) -> int | None:
    if entry.get(name) is None:
        return None
    value = number_of(entry, name, **where)
    if value < 1 or not value.is_integer():
        raise ManifestError(
            str(where["file"]), where["place"], f"its {name} is {value:g}", "Expected a number of pixels from 1."
        )
    return int(value)


def _boxes(entry: Record, object_type: str, where: Mapping[str, Any]) -> tuple[Box, ...] | None:
    """Return the boxes of the objects that count; None for a frame of the test file."""
    if entry.get("bbox") is None:
        return None
    found = []
    for row in list_of(entry, "bbox", **where):
        if text_of(row, "object_type", **where) != object_type:
            continue
        box = row.get("bbox", row)
        if not isinstance(box, dict):
            raise ManifestError(
                str(where["file"]), where["place"], f"a box is {box!r:.60}", "Expected x, y, width, height."
            )
        x, y, width, height = (number_of(box, name, **where) for name in ("x", "y", "width", "height"))
        found.append((x, y, width, height))
    return tuple(found)


def _of_coco(document: Record, path: str | Path, data: FrameData) -> Iterator[Frame]:
    images: dict[int, tuple[Record, dict[str, Any]]] = {}
    for number, entry in enumerate(list_in(document, "images", path), 1):
        where: dict[str, Any] = {"file": path, "place": f"image {number}"}
        image = frame_of(entry, "id", **where)
        if image in images:
            cause = f"its id {image} is that of {images[image][1]['place']}, too"
            raise ManifestError(str(path), where["place"], cause, "Number each image once.")
        images[image] = entry, where
    boxes = _boxes_of_coco(document, path, data.object_type, images)
    for image, (entry, where) in images.items():
        file = text_of(entry, "file_name", **where)
        width, height = (_length(entry, name, where) for name in ("width", "height"))
        own = None if boxes is None else tuple(boxes.get(image, ()))
        yield Frame(image, file, file=file, width=width, height=height, boxes=own)


def _boxes_of_coco(
    document: Record, path: str | Path, object_type: str, images: Collection[int]
) -> dict[int, list[Box]] | None:
    """Return the boxes of the objects that count, by image; None where nothing is annotated."""
    if document.get("annotations") is None:
        return None
    categories = list_in(document, "categories", path) if document.get("categories") else []
    counted = [row.get("id") for row in categories if row.get("name") in (None, object_type)]
    if categories and not counted:
        known = ", ".join(str(row.get("name")) for row in categories[:10])
        cause = f"it has no category {object_type!r}, but {known}"
        raise ManifestError(str(path), None, cause, "Set data.frames.object_type.")
    boxes: dict[int, list[Box]] = {}
    for number, row in enumerate(list_in(document, "annotations", path), 1):
        where: dict[str, Any] = {"file": path, "place": f"annotation {number}"}
        image, box = row.get("image_id"), row.get("bbox", ())
        if type(image) is not int or not are_numbers(box, 4):
            advice = "Expected image_id and bbox, four finite numbers: left, top, width, height in pixels."
            raise ManifestError(str(path), where["place"], f"it is {row!r:.90}", advice)
        if image not in images:
            cause = f"its image_id {image} is none of the {len(images)} images"
            raise ManifestError(str(path), where["place"], cause, "Add the image, or delete the entry.")
        if row.get("iscrowd"):
            raise ManifestError(str(path), where["place"], "it is a crowd (iscrowd)", "Expected single objects.")
        if not categories or row.get("category_id") in counted:
            boxes.setdefault(image, []).append((float(box[0]), float(box[1]), float(box[2]), float(box[3])))
    return boxes
