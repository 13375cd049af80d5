"""The result of an evaluation as text."""

from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = {
    "retrieval": ("R@1", "R@5", "R@10", "MedR", "MeanR"),
    "zero_shot": ("top-1", "top-5", "mean"),
    "multiple_choice": ("top-1",),
}
RANKS = {"video": "places among videos, each as near as its nearest caption", "caption": "places among captions"}
WAYS = {"plain": "", "dual_softmax": ", dual softmax"}


def table(result: Mapping[str, Any]) -> str:
    """A result as text: the protocol, and our scores with the published ones below.

    Args:
        result: what `internvideo_hf.evaluation.run.evaluate` returns and writes.
    """
    settings = result["settings"]
    lines = [f"{result['protocol']}: {settings['title']}", *_protocol_lines(result), ""]
    columns = COLUMNS[settings["task"]]
    lines.append(f"{'':44}{''.join(f'{name:>8}' for name in columns)}")
    if settings["task"] != "retrieval":
        lines.append(_score_line("this model", result["scores"], columns))
        lines += [_published_line(entry, columns) for entry in result["published"]]
        return "\n".join(lines)
    for direction, ways in result["scores"].items():
        for way, scores in ways.items():
            lines.append(_score_line(f"{direction.replace('_', ' ')}{WAYS[way]}", scores, columns))
            wanted = (direction, way == "dual_softmax")
            told = [entry for entry in result["published"] if (entry["direction"], entry["dual_softmax"]) == wanted]
            lines += [_published_line(entry, columns) for entry in told]
    return "\n".join(lines)


def ensemble_table(result: Mapping[str, Any]) -> str:
    """The result of an ensemble as text: each member, their sum, and what was published below.

    Args:
        result: what `internvideo_hf.evaluation.ensemble_run.evaluate_ensemble` returns and writes.
    """
    settings, data, columns = result["settings"], result["data"], ("top-1", "top-5")
    lines = [f"{result['protocol']}: {settings['title']}"]
    lines.append(f"  videos  {data['videos']} of {settings['data']['list']}, {len(result['damaged'])} of them damaged")
    lines.append(f"  weights {settings['weights'] if isinstance(settings['weights'], str) else 'given'}")
    for member in result["members"]:
        clips, crops = member["views"]
        lines.append(
            f"  member  {member['model']} ({member['family']}, {member['parameters']:,} parameters), {clips} clips x "
            f"{crops} crops, weight {member['weight']:.3f}"
        )
    lines += ["", f"{'':44}{''.join(f'{name:>8}' for name in columns)}"]
    lines += [_score_line(member["model"][-43:], member["scores"], columns) for member in result["members"]]
    lines.append(_score_line("the ensemble", result["scores"], columns))
    lines += [
        _score_line(f"  {entry['where']}, {entry['labels']}", entry["scores"], columns)
        for entry in result["published"]
    ]
    return "\n".join(lines)


def _protocol_lines(result: Mapping[str, Any]) -> list[str]:
    settings, data, pixels = result["settings"], result["data"], result["settings"]["processor"]
    merge, published = settings["merge"], settings["data"]["num_videos"]
    videos = f"{data['videos']} of {', '.join(data['files'])}, {len(result['damaged'])} of them damaged"
    if published is not None and published != data["videos"]:
        videos += f"; the published split has {published}"
    texts = f"prompts of {settings['prompts']}" if data["texts"] is None else str(data["texts"])
    texts += f", of at most {settings['text_length']} tokens"
    model, sampler = result["model"], " ".join(map(str, filter(None, map(pixels.get, ("sampler", "sampler_kwargs")))))
    facts = {
        "model": f"{model['name']} ({model['family']}, {model['parameters']:,} parameters)",
        "videos": videos,
        "frames": f"{pixels.get('num_frames')} by {sampler}",
        "pixels": _pixels(pixels),
        "texts": texts,
        "merge": "none",
    }
    if merge is not None:
        facts["merge"] = f"published: {merge['weight']} CLIP, by internvideo merge --variant {merge['variant']}"
    if settings["task"] == "retrieval":
        facts["ranks"] = f"of video to text: {RANKS[settings['several']]}"
        facts["factor"] = f"of the cosine: {settings['factor']}"
    return [f"  {name:8}{fact}" for name, fact in facts.items()]


def _pixels(options: Mapping[str, Any]) -> str:
    size, crop = options.get("size", {}), options.get("crop_size", {})
    sides = f"short side {size['shortest_edge']}" if "shortest_edge" in size else " x ".join(map(str, size.values()))
    cut = f", centre {' x '.join(map(str, crop.values()))}" if options.get("do_center_crop") else ", no crop"
    return f"{sides} by {options.get('resize_method')}{cut}"


def _published_line(entry: Mapping[str, Any], columns: Sequence[str]) -> str:
    name = f"  {entry['where']}{WAYS['dual_softmax'] if entry['dual_softmax'] else ''}"
    return _score_line(f"{name}, {entry['model']}" if entry["model"] else name, entry["scores"], columns)


def _score_line(name: str, scores: Mapping[str, float], columns: Sequence[str]) -> str:
    return f"{name:44}" + "".join(f"{scores[key]:8.2f}" if key in scores else f"{'-':>8}" for key in columns)
