"""Made-up annotation files of future hand prediction, in the layout that Ego4D documents."""

from typing import Any

HEADER = {
    "version": "1",
    "date": "220217",
    "description": "FHO Hands & Objects",
    "manifest": "s3://somewhere/v1/full_scale/manifest.csv",
    "split": "train",
}
TIMES = ("pre_45", "pre_30", "pre_15", "pre_frame", "contact_frame")


def moments(frame: int, clip_frame: int | None, hands: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Return an action whose moments are 15 frames apart, with the hands of some of them by moment."""
    action: dict[str, Any] = {
        "action_start_sec": 1.0,
        "action_end_sec": 9.0,
        "action_start_frame": 30,
        "action_end_frame": 270,
        "action_clip_start_sec": 1.0,
        "action_clip_end_sec": 9.0,
        "action_clip_start_frame": 30,
        "action_clip_end_frame": 270,
    }
    for step, time in enumerate((*TIMES, "pnr_frame", "post_frame")):
        moment: dict[str, Any] = {"frame": frame + 15 * step}
        if clip_frame is not None:
            moment["clip_frame"] = clip_frame + 15 * step
        moment["boxes"] = [{f"{side}_hand": point} for side, point in hands.get(time, {}).items()]
        action[time] = moment
    return action


def clip(number: int, actions: list[dict[str, Any]], uid: str = "clip") -> dict[str, Any]:
    """Return a clip with its ids."""
    return {"clip_id": number, "clip_uid": f"{uid}-{number}", "video_uid": f"video-{number}", "frames": actions}


def document(*clips: dict[str, Any], **header: Any) -> dict[str, Any]:
    """Return a document of the five documented fields and its clips."""
    return {**HEADER, **header, "clips": list(clips)}
