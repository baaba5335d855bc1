"""Judgements of images, videos and audios: their marks in the text, their files, and whether the template takes them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from doctor.facts import Facts
from doctor.findings import Evidence, Finding
from doctor.recipe import conversion
from doctor.recipe.records_judged import at, examples, finding, first_file, scans
from knowledge_base.schema import Severity

# Templates whose images take a token for each square of patch_size times merge_size pixels.
BY_AREA = ("qwen2_vl", "qwen3_vl", "glm4v", "qwen2_omni")
_SIDE = 32  # of that square where the processor does not say: 28 or 32
_LEAST_LIMIT = 512 * 512  # pixels to which releases resize a larger image, where the recipe says nothing: at least this


def marks_fit(facts: Facts) -> Iterator[Finding]:
    """As many marks as files, where a column of files is declared."""
    for _, _, scan, details in scans(facts):
        placeholders = scan["faults"].get(conversion.PLACEHOLDERS)
        if placeholders:
            what = f"{placeholders['count']} of {scan['read']} records have as many placeholders as media files: no"
            evidence = [Evidence(what, placeholders["examples"][0]["file"]), *examples(placeholders)]
            more = {"count": placeholders["count"], "file": first_file(placeholders)}
            # A template of text counts nothing where nothing is given: the mark is learned as it stands.
            of_text = facts.get("template.known") is True and facts.get("template.multimodal") is False
            unread = of_text and all(", 0 " in one["text"] for one in placeholders["examples"])
            severity = Severity.WARNING if unread else None
            yield finding("data-multimodal-placeholder", evidence, details | more, severity)


def marks_declared(facts: Facts) -> Iterator[Finding]:
    """Marks in the text and no column of files, with a template that counts them."""
    for name, entry, scan, details in scans(facts):
        for kind in facts.get("template.counted") or ():
            first = scan.get("marks", {}).get(kind)
            if first:
                what = f'{first["text"]} stands in the text, and "{name}" declares no column of {kind}'
                evidence = [Evidence(what, at(facts, entry, "columns"))]
                evidence.append(Evidence(f"record {first['record']} is the first", f"{first['file']}:{first['line']}"))
                yield finding("data-multimodal-placeholder", evidence, details | {"file": first["file"]})


def files_there(facts: Facts) -> Iterator[Finding]:
    for _, _, scan, details in scans(facts):
        missing = scan["missing_media"]
        if missing["count"]:
            more = {"count": missing["count"], "file": first_file(missing)}
            if scan["media_found_in"]:
                more["media_dir_suggestion"] = scan["media_found_in"]
            yield finding("data-media-missing", examples(missing), details | more)
        for kind, damaged in scan.get("damaged_media", {}).items():
            cause = "data-video-decode" if kind == "videos" else "data-media-missing"
            more = {"count": damaged["count"], "file": first_file(damaged), "damaged": True}
            yield finding(cause, examples(damaged), details | more)


def wanted(facts: Facts) -> Iterator[Finding]:
    """Media in the data that the template does not take: the first record that has one ends the run.
    Empty lists are what a text record has in a mixed set."""
    name = facts["template.name"]
    if name is None or not facts["template.known"]:
        return
    taken = facts.get("template.media") or ()
    if facts["template.multimodal"] and not taken:
        return  # by a plugin whose tokens are not read from the source
    for entry_name, entry, scan, details in scans(facts):
        for kind in conversion.MARKS:
            column = entry["columns"].get(kind)
            if column and kind not in taken and scan["media_given"].get(column):
                of = f"for {' and '.join(taken)}" if taken else "for text"
                what = f'"{entry_name}" brings {kind} ("{column}"), and template "{name}" is {of}'
                yield finding("tmpl-wrong-for-model", [Evidence(what, at(facts, entry, f"columns.{kind}"))],
                              details | {"template_name": name, "media": kind})  # fmt: skip


def images_within_cutoff(facts: Facts) -> Iterator[Finding]:
    """An image that takes more tokens than cutoff_len alone: its features do not fit what is left of them."""
    values = facts["recipe.values"]
    cutoff = values.get("cutoff_len", 2048)
    if facts.get("template.plugin") not in BY_AREA or type(cutoff) is not int or facts["dataset.stage"] == "pt":
        return
    for _, _, scan, details in scans(facts):
        if not scan.get("largest_image"):
            continue
        tokens = _fewest_tokens(scan["largest_image"], values, facts.get("records.processor") or {})
        if tokens > cutoff > 0:
            wide, high = scan["largest_image"]
            what = f"an image of {wide} x {high} pixels takes at least {tokens} tokens; cutoff_len is {cutoff}"
            where = f"{facts['recipe.path']}:{facts.get('recipe.lines', {}).get('cutoff_len', 1)}"
            details |= {"model_path": values.get("model_name_or_path")}
            yield finding("data-cutoff-truncates", [Evidence(what, where)], details)
            return


def _fewest_tokens(size: tuple[int, int], values: Mapping[str, Any], processor: Mapping[str, Any]) -> int:
    """What is left after LLaMA-Factory and the processor made the image smaller, rounded down on both sides."""
    own = processor.get("size") if isinstance(processor.get("size"), dict) else {}
    given = (values.get("image_max_pixels"), values.get("image_resolution"))
    limits = [next((n for n in given if type(n) is int), _LEAST_LIMIT), processor.get("max_pixels")]
    limits.append((own or {}).get("longest_edge"))
    most = min(n for n in limits if type(n) is int and n > 0) if any(type(n) is int and n > 0 for n in limits) else 0
    sides = (processor.get("patch_size"), processor.get("merge_size"))
    side = sides[0] * sides[1] if all(type(n) is int and n > 0 for n in sides) else _SIDE  # type: ignore[operator]
    scale = min(1.0, math.sqrt(most / (size[0] * size[1]))) if size[0] and size[1] else 0.0
    return int(size[0] * scale / side) * int(size[1] * scale / side)
