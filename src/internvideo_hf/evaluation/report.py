"""Results of evaluations as text."""

from collections.abc import Mapping, Sequence
from typing import Any

from internvideo_hf.tasks import evaluation_tasks

LONGEST_PATH = 40  # characters that a table shows of a member's folder


def table(result: Mapping[str, Any]) -> str:
    """Return a result as text: the protocol, and our scores with the published ones below.

    Args:
        result: of `internvideo_hf.evaluation.run.evaluate`.
    """
    settings = result["settings"]
    task = evaluation_tasks()[settings["task"]]
    lines = [f"{result['protocol']}: {settings['title']}", *_protocol_lines(result, task.facts(result)), ""]
    rows: list[tuple[str, Mapping[str, float]]] = []
    for name, scores, published in task.lines(result):
        rows.append((name, scores))
        rows += [(_published_name(entry), entry["scores"]) for entry in published if entry["scores"]]
    columns = [name for name in task.columns if any(name in scores for _, scores in rows)]
    return "\n".join(lines + _score_table(rows, columns))


def ensemble_table(result: Mapping[str, Any]) -> str:
    """Return an ensemble's result as text: each member, their sum, and the published scores below.

    Args:
        result: of `internvideo_hf.evaluation.ensemble_run.evaluate_ensemble`.
    """
    settings, data, columns = result["settings"], result["data"], ("top-1", "top-5")
    lines = [f"{result['protocol']}: {settings['title']}"]
    lines.append(f"  videos  {data['videos']} of {settings['data']['list']}, {len(result['damaged'])} of them damaged")
    if settings.get("dtype") is not None:
        lines.append(f"  numbers {settings['dtype']}")
    lines.append(f"  weights {settings['weights'] if isinstance(settings['weights'], str) else 'given'}")
    for member in result["members"]:
        clips, crops = member["views"]
        lines.append(
            f"  member  {member['model']} ({member['family']}, {member['parameters']:,} parameters), {clips} clips x "
            f"{crops} crops, weight {member['weight']:.3f}"
        )
    rows = [(_shortened(member["model"]), member["scores"]) for member in result["members"]]
    rows.append(("the ensemble", result["scores"]))
    rows += [(f"  {entry['where']}, {entry['labels']}", entry["scores"]) for entry in result["published"]]
    return "\n".join([*lines, "", *_score_table(rows, columns)])


def _protocol_lines(result: Mapping[str, Any], task_facts: Mapping[str, str]) -> list[str]:
    settings, data, model, merge = result["settings"], result["data"], result["model"], result["settings"]["merge"]
    split = settings["data"]["num_videos"]
    videos = f"{data['videos']} of {', '.join(data['files'])}, {len(result['damaged'])} of them damaged"
    if split is not None and split != data["videos"]:
        videos += f"; the published split has {split}"
    about = f" ({model['family']}, {model['parameters']:,} parameters)" if "parameters" in model else ""
    facts = [("model", f"{model['name']}{about}"), ("videos", videos)]
    for pixels in model.get("pixels", {"": settings["processor"]}).values():
        sampler = " ".join(map(str, filter(None, map(pixels.get, ("sampler", "sampler_kwargs")))))
        facts += [("frames", f"{pixels.get('num_frames')} by {sampler}"), ("pixels", _pixels(pixels))]
    facts += task_facts.items()
    if "dtype" in model:
        published = settings.get("published_dtype") or "an unstated type"
        origin = f"; the published scores were computed in {published}" if result["published"] else ""
        facts.append(("numbers", f"{model['dtype']}{origin}"))
    if merge is not None:
        facts.append(
            ("merge", f"published: {merge['weight']} CLIP, by internvideo merge --variant {merge['variant']}")
        )
    return [f"  {name:8}{fact}" for name, fact in facts]


def _pixels(options: Mapping[str, Any]) -> str:
    size, crop = options.get("size", {}), options.get("crop_size", {})
    sides = f"short side {size['shortest_edge']}" if "shortest_edge" in size else " x ".join(map(str, size.values()))
    cut = f", center {' x '.join(map(str, crop.values()))}" if options.get("do_center_crop") else ", no crop"
    return f"{sides} by {options.get('resize_method')}{cut}"


def _published_name(entry: Mapping[str, Any]) -> str:
    name = f"  {entry['where']}{', dual softmax' if entry['dual_softmax'] else ''}"
    return f"{name}, {entry['model']}" if entry["model"] else name


def _shortened(path: str) -> str:
    """Leave out the first folders of a long path."""
    rest = path
    while len(rest) > LONGEST_PATH and "/" in rest:
        rest = rest.partition("/")[2]
    return path if rest == path else f".../{rest}"


def _score_table(rows: Sequence[tuple[str, Mapping[str, float]]], columns: Sequence[str]) -> list[str]:
    width = max(len(name) for name, _ in rows) + 2
    widths = {name: max(8, len(name) + 2) for name in columns}
    lines = [f"{'':{width}}{''.join(f'{name:>{widths[name]}}' for name in columns)}"]
    for name, scores in rows:
        numbers = (f"{scores[key]:{wide}.2f}" if key in scores else f"{'-':>{wide}}" for key, wide in widths.items())
        lines.append(f"{name:{width}}{''.join(numbers)}")
    return lines
