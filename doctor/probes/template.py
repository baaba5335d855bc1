"""The chat template that the recipe names: known to the installed LLaMA-Factory, and right for the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from doctor.facts import Facts, Unknown
from doctor.findings import Evidence, Finding
from doctor.probes import Judgement
from doctor.recipe import json_object, media_judged, recipe_kind, templates, tokenizer_files, weight_files
from doctor.target import Target
from knowledge_base.schema import Severity

ID = "template"
AFTER: tuple[str, ...] = ("recipe", "llamafactory", "model")
SOURCE = f"probe:{ID}"

_FACTS = ("known", "end", "multimodal", "plugin", "media", "counted", "expected", "expected_end", "of_type",
          "needs_processor", "nearest", "relative", "plugin_of_type", "processor_broken")  # fmt: skip


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    name = facts["recipe.values"].get("template")
    # The new launcher has templates of its own.
    judged = isinstance(name, str) and name and not recipe_kind.written_for_new_launcher(facts["recipe.values"])
    name = name if judged else None
    root = facts.get("llamafactory.root")
    if root is None:
        lacking = Unknown(facts.why_unknown("llamafactory.templates") or "LLaMA-Factory is not installed in the target")
        return {"template.name": name} | {f"template.{fact}": lacking for fact in _FACTS}
    try:
        source = templates.cached(Path(root))
    except (OSError, SyntaxError) as error:
        lacking = Unknown(f"the source of LLaMA-Factory cannot be read ({error})")
        return {"template.name": name} | {f"template.{fact}": lacking for fact in _FACTS}
    own = source.templates.get(name or "")
    relative = templates.SAME_TURNS.get((name or "").lower())
    expected = source.models.get(str(facts.get("model.name") or ""))
    return {
        "template.name": name,
        "template.known": own is not None,
        "template.end": own.end if own else None,
        "template.multimodal": bool(own and own.multimodal),
        "template.plugin": own.plugin if own else None,
        "template.media": own.media if own else {},
        "template.plugin_of_type": _plugin_of_type(facts, source),
        "template.processor_broken": _broken_processor(facts) if own and own.multimodal else None,
        "template.counted": list(templates.MEDIA if source.counts_all else own.media) if own and own.multimodal else [],
        "template.expected": expected,
        "template.expected_end": source.templates[expected].end if expected in source.templates else None,
        "template.needs_processor": source.needs_processor,
        "template.of_type": _of_type(facts, source),
        "template.nearest": templates.nearest(name, list(source.templates)) if name else None,
        "template.relative": msgspec.to_builtins(relative)
        if relative and relative.template in source.templates
        else None,
    }


def _of_type(facts: Facts, source: templates.Source) -> str | None:
    """The template of the model's type, for a local folder that no table can name."""
    kind = (facts.get("model.config") or {}).get("model_type")
    found = templates.OF_TYPE.get(str(kind))
    return found if found in source.templates else None


def _plugin_of_type(facts: Facts, source: templates.Source) -> str | None:
    """Of the model's type, where a template of this release has it."""
    kind = (facts.get("model.config") or {}).get("model_type")
    found = templates.PLUGIN_OF_TYPE.get(str(kind))
    return found if any(template.plugin == found for template in source.templates.values()) else None


_PROCESSORS = ("preprocessor_config.json", "processor_config.json")


def _broken_processor(facts: Facts) -> str | None:
    """What is wrong with a settings file of the processor: "file: why"."""
    folder = facts.get("model.path") if facts.get("model.local") else None
    for name in _PROCESSORS if folder else ():
        why = json_object.read(Path(str(folder)) / name)[1]
        if why and why != weight_files.MISSING:
            return f"{name}: {why}"
    return None


def _line(facts: Facts) -> str:
    return f"{facts['recipe.path']}:{facts.get('recipe.lines', {}).get('template', 1)}"


def exists(facts: Facts) -> Iterator[Finding]:
    name = facts["template.name"]
    if name is None or facts["template.known"]:
        return
    release = facts.get("llamafactory.version", "of the target")
    evidence = [Evidence(f'template "{name}" does not exist in LLaMA-Factory {release}', _line(facts))]
    details: dict[str, Any] = {"template_name": name}
    relative, expected, near = facts["template.relative"], facts["template.expected"], facts["template.nearest"]
    if relative is not None:
        details |= {"equal_template": relative["template"], "differences": list(relative["differences"])}
        evidence.append(Evidence(f'"{relative["template"]}" builds the same turns', f"llamafactory {release}"))
        evidence += [Evidence(text, f"llamafactory {release}") for text in relative["differences"]]
    if name in templates.FIRST_RELEASE:
        details["newer_release"] = templates.FIRST_RELEASE[name]
        evidence.append(Evidence(f"it came with LLaMA-Factory {details['newer_release']}", f"llamafactory {release}"))
    if expected is not None:
        details["model_template"] = expected
        evidence.append(Evidence(f'for {facts["model.name"]} this release has "{expected}"', f"llamafactory {release}"))
    if expected or near:
        details["nearest_template"] = expected or near
    yield Finding("tmpl-unknown", tuple(evidence), source=SOURCE, details=details)


def fits_model(facts: Facts) -> Iterator[Finding]:
    """The release's own table gives the model another template, whose answers end with another token."""
    expected, name = facts["template.expected"], facts["template.name"]
    if name is None or expected is None or not facts["template.known"] or name == expected:
        return
    end, wanted = facts["template.end"], facts["template.expected_end"]
    if not end or not wanted or end == wanted:
        return
    what = (
        f'{facts["model.name"]} is a model of template "{expected}" (answers end with {wanted}), not "{name}" ({end})'
    )
    details = {"template_name": name, "fitting_template": expected}
    evidence = (Evidence(what, _line(facts)),)
    yield Finding("tmpl-wrong-for-model", evidence, Severity.WARNING, 0.8, SOURCE, details=details)


def model_has_processor(facts: Facts) -> Iterator[Finding]:
    if not facts["template.known"] or not facts["template.multimodal"] or not facts["model.local"]:
        return
    files = set(facts["model.files"])
    if broken := facts["template.processor_broken"]:
        evidence = (Evidence(f"the processor cannot be loaded ({broken})", str(facts["model.path"])),)
        details = {"template_name": facts["template.name"], "multimodal": True, "model_path": facts["model.path"]}
        details["broken"] = True
        yield Finding("model-processor-missing", evidence, source=SOURCE, details=details)
    if files & {*_PROCESSORS}:
        return
    name = facts["template.name"]
    what = f'template "{name}" is for images, and the model folder has no preprocessor_config.json'
    details = {"template_name": name, "multimodal": True, "model_path": facts["model.path"]}
    if facts["template.of_type"]:
        details["fitting_template"] = facts["template.of_type"]
    vision = "vision_config" in facts["model.config"]
    cause = "model-processor-missing" if vision else "tmpl-wrong-for-model"
    given = any(scan["media_given"] for scan in facts.get("records.scans", {}).values())
    severity = None if facts["template.needs_processor"] or given else Severity.WARNING
    yield Finding(cause, (Evidence(what, _line(facts)),), severity, source=SOURCE, details=details)


def takes_media_of_model(facts: Facts) -> Iterator[Finding]:
    """Each family puts its images into the text in a way of its own, which the processor of another does not fit."""
    plugin, wanted, name = facts["template.plugin"], facts["template.plugin_of_type"], facts["template.name"]
    if not plugin or not wanted or plugin == wanted:
        return
    kind = facts["model.config"]["model_type"]
    given = any(scan["media_given"] for scan in facts.get("records.scans", {}).values())
    what = f'template "{name}" puts images into the text as {plugin} does, and the model is a {kind}'
    details: dict[str, Any] = {"template_name": name}
    if facts["template.of_type"]:
        details["fitting_template"] = facts["template.of_type"]
    severity = None if given else Severity.WARNING
    yield Finding("tmpl-wrong-for-model", (Evidence(what, _line(facts)),), severity, 0.9, SOURCE, details=details)


def media_tokens_known(facts: Facts) -> Iterator[Finding]:
    """Where an image is a run of one token of the tokenizer: without that token its letters are spelt out."""
    tokenizer = facts["model.tokenizer"] if facts["model.local"] else {}
    added, special = tokenizer.get("added") or [], (tokenizer.get("special") or {}).values()
    if facts["template.plugin"] not in media_judged.BY_AREA or tokenizer.get("highest_id") is None:
        return
    given = {kind for scan in facts.get("records.scans", {}).values() for kind in _kinds_given(facts, scan)}
    for kind in facts["template.media"].keys() & given:
        token = facts["template.media"][kind]
        if token not in added and token not in special and len(added) < tokenizer_files.MOST_ADDED:
            what = f'template "{facts["template.name"]}" writes {kind} as {token}, which the tokenizer does not have'
            details: dict[str, Any] = {"template_name": facts["template.name"]}
            yield Finding(
                "data-multimodal-token-mismatch", (Evidence(what, _line(facts)),), source=SOURCE, details=details
            )


def _kinds_given(facts: Facts, scan: Mapping[str, Any]) -> Iterator[str]:
    for entry in facts["dataset.entries"].values():
        yield from (kind for kind in templates.MEDIA if entry["columns"].get(kind) in scan["media_given"])


def end_token_known(facts: Facts) -> Iterator[Finding]:
    """An end token that the tokenizer lacks is added by LLaMA-Factory; without a free row its id is out of range."""
    end = facts["template.end"]
    if (
        not end
        or facts["recipe.values"].get("resize_vocab")
        or not (facts["model.local"] or facts["model.cached_path"])
    ):
        return
    tokenizer, rows = facts["model.tokenizer"], facts["model.weights"]["rows"]
    highest, added = tokenizer["highest_id"], tokenizer["added"]
    if highest is None or end in added or end in tokenizer["special"].values():
        return
    room = rows is None or highest + 1 < rows
    name = facts["template.name"]
    what = f'answers end with {end} in template "{name}", which the tokenizer of the model does not have'
    if not room:
        what += f"; it would get the id {highest + 1}, the embedding has {rows} rows"
    details = {"template_name": name, "end_token": end, "resize_vocab_missing": not room}
    severity = Severity.WARNING if room else Severity.ERROR
    yield Finding("tmpl-wrong-for-model", (Evidence(what, _line(facts)),), severity, 0.8, SOURCE, details=details)


JUDGEMENTS: tuple[Judgement, ...] = (
    exists, fits_model, model_has_processor, takes_media_of_model, media_tokens_known, end_token_known,
)  # fmt: skip
