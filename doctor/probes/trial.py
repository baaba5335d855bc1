"""`check --deep`: the verdict of the release's own argument parser, and the lengths that its own template makes of the data.

Both run in one child of the target's python, which imports what a training run imports and is ended at the deadline.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from doctor.facts import Facts, Unknown
from doctor.findings import Evidence, Finding
from doctor.probes import Judgement, whole
from doctor.recipe import json_text, lengths, recipe_kind
from doctor.target import Target
from knowledge_base.schema import Severity

if TYPE_CHECKING:  # what only --deep needs is imported when it runs
    from doctor.deep.trial import Trial

ID = "trial"
AFTER: tuple[str, ...] = ("recipe", "launch", "llamafactory", "dataset", "model")
DEEP = True
SOURCE = f"probe:{ID}"

PARSER_SECONDS = 180.0  # imports from a cold network disk; 10 s on a warm local one
SAMPLING_SECONDS = 20.0
LENGTHS_SECONDS = 60.0  # of tokenising; what was not measured by then is said
LARGEST_WHOLE = 2 << 30  # bytes of a file that is not JSON and is loaded whole
MOSTLY = 0.5  # share of cut records from which on a cutoff is called too short
# Settings by which the data become tokens; the rest of a recipe that was refused is left away.
_OF_DATA = {
    "model_name_or_path", "cache_dir", "use_fast_tokenizer", "resize_vocab", "split_special_tokens", "new_special_tokens",
    "add_tokens", "add_special_tokens", "model_revision", "trust_remote_code", "hf_hub_token", "ms_hub_token", "stage",
    "template", "dataset", "dataset_dir", "cutoff_len", "train_on_prompt", "mask_history", "tool_format",
    "default_system", "enable_thinking", "media_dir", "image_max_pixels", "image_min_pixels", "video_max_pixels",
    "video_min_pixels", "video_fps", "video_maxlen", "max_samples",
}  # fmt: skip
_CPU_SAFE = {"do_train": True, "report_to": "none", "output_dir": "saves/unused", "finetuning_type": "lora"}


def parts(target: Target, facts: Facts) -> Iterator[dict[str, Any]]:
    """First `trial.parser` and `trial.diagnosed`, then `trial.lengths`: entry -> lengths.Lengths or {unknown}."""
    import tempfile

    from doctor.deep import sample
    from doctor.deep.trial import Trial, environment

    lacking = _reason_against(target, facts)
    if lacking:
        yield {f"trial.{name}": Unknown(lacking) for name in ("parser", "diagnosed", "lengths")}
        return
    begun = time.monotonic()
    until = begun + min(PARSER_SECONDS, target.budget * 0.9)
    world = _world(facts)
    with tempfile.TemporaryDirectory(prefix="skyt1-doctor-") as folder:
        drawn, without = _samples(target, facts, Path(folder))
        order: dict[str, Any] = {"argv": [str(target.recipe)], "world": world, "sample": None}
        if drawn:
            order["sample"] = {
                "values": {k: v for k, v in facts["recipe.values"].items() if k in _OF_DATA} | _CPU_SAFE,
                "dataset_dir": folder,
                "cache_dir": folder,
                "entries": list(drawn),
                "seconds": min(LENGTHS_SECONDS, target.budget / 4),
                "records": sample.RECORDS,
            }
        around = environment(target.environ, target.scripts, world, target.offline) | {"HF_DATASETS_CACHE": folder}
        trial = Trial(target.python, target.workdir, around, order)
        try:
            yield from _heard(trial, until, target, facts, drawn, without)
        finally:
            trial.end()


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    return whole(parts(target, facts))


def _reason_against(target: Target, facts: Facts) -> str | None:
    if facts.get("llamafactory.version") is None:
        return facts.why_unknown("llamafactory.version") or "LLaMA-Factory is not installed in the target"
    if recipe_kind.subcommand(facts["recipe.values"]) != recipe_kind.TRAIN:
        return "the recipe is not one of `train`"
    if recipe_kind.written_for_new_launcher(facts["recipe.values"]) or recipe_kind.other_program(target.environ):
        return "the recipe is read by another program than the usual launcher"
    if target.environ.get("USE_RAY", "0").lower() in ("1", "true", "y", "yes"):
        return "the launch is by Ray, whose workers parse the recipe elsewhere"
    return None


def _world(facts: Facts) -> dict[str, int] | None:
    """Rank, size and processes on this node as torchrun would start them; None where the command starts no torchrun."""
    if not facts["launch.force_torchrun"] and facts.get("gpu.count", 0) <= 1:
        return None
    local = facts["launch.nproc"]
    return {"rank": facts["launch.node_rank"] * local, "size": facts["launch.world_size"], "local": local}


def _samples(target: Target, facts: Facts, folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """(entry -> sample.Sample or a path, entry -> why it is not measured). Writes them as a dataset_dir."""
    from doctor.deep import sample

    if facts.get("dataset.tokenized"):
        return {}, {name: "the data are tokenised already" for name in facts.get("dataset.entries", {})}
    entries: Mapping[str, Any] = facts.get("dataset.entries", {})
    found: dict[str, Any] = {}
    without: dict[str, str] = {}
    wanted = [name for name in facts["dataset.requested"]["dataset"] if name in entries]
    until = time.monotonic() + min(SAMPLING_SECONDS, target.budget / 5)
    for name in wanted:
        files = entries[name]["files"]
        loaders = {file["loader"] for file in files}
        paths = [Path(file["path"]) for file in files]
        if not files or len(loaders) != 1:
            without[name] = "its data are not on this machine"
        elif loaders == {"json"}:
            one = sample.draw(paths, until)
            if one.records:
                found[name] = one
            else:
                without[name] = one.unreadable or "it holds no record"
        elif len(paths) == 1 and files[0]["bytes"] <= LARGEST_WHOLE:
            found[name] = paths[0]
        else:
            without[name] = "it is too large to be loaded whole"
    if found:
        info = json_text.parse((target.workdir / facts["dataset.info_path"]).read_text(encoding="utf-8")).value
        sample.write(folder, info, found)
    return found, without


def _heard(
    trial: Trial, until: float, target: Target, facts: Facts, drawn: dict[str, Any], without: dict[str, str]
) -> Iterator[dict[str, Any]]:
    from doctor.deep.trial import last_words

    measured: dict[str, Any] = {name: {"unknown": why} for name, why in without.items()}
    late = f"it had not answered after {until - time.monotonic():.0f} s"
    parsed = False
    try:
        for told in trial.answers(until):
            if told["stage"] == "parser":
                parsed, until = True, time.monotonic() + LENGTHS_SECONDS * 2
                yield _verdict({k: v for k, v in told.items() if k != "stage"}, trial, facts)
            elif told["stage"] == "sample":
                measured |= {name: {"unknown": f"{told['exception']}: {told['message']}"[:300]} for name in drawn}
            elif told["stage"] == "lengths":
                measured[told["entry"]] = _measured(told, drawn[told["entry"]], facts)
            if parsed and set(drawn) <= measured.keys():
                break
        else:
            late = f"it ended with code {trial.process.wait(timeout=5)}: {last_words(trial.errors())}"
    except TimeoutError:
        pass
    if not parsed:
        said = last_words(trial.errors())
        missing = Unknown(f"the trial of the target's own parser: {late}" + (f"; it last said: {said}" if said else ""))
        yield {"trial.parser": missing, "trial.diagnosed": missing}
    for name in drawn:
        measured.setdefault(name, {"unknown": late})
    yield {"trial.lengths": measured}


def _verdict(told: dict[str, Any], trial: Trial, facts: Facts) -> dict[str, Any]:
    import tempfile

    from doctor.deep.trial import last_words

    if told["accepted"]:
        return {"trial.parser": told, "trial.diagnosed": []}
    errors = trial.errors()
    told["message"] = (told["message"] if told["exception"] != "SystemExit" else "") or last_words(errors)
    from doctor.diagnose import diagnose

    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        log.write(errors.encode("utf-8"))
        log.flush()
        found = diagnose([log.name], facts).findings
    kept = [msgspec.to_builtins(finding) for finding in found if finding.confidence >= 0.5][:3]
    for finding in kept:
        finding["evidence"] = [{"what": e["what"], "where": "the target's own parser"} for e in finding["evidence"]]
    return {"trial.parser": told, "trial.diagnosed": kept}


def _measured(told: dict[str, Any], drawn: Any, facts: Facts) -> dict[str, Any]:
    from doctor.deep import sample

    if "error" in told:
        return {"unknown": f"{told['error']['exception']}: {told['error']['message']}"[:300]}
    count = len(told["whole"])
    is_sample = isinstance(drawn, sample.Sample)
    read = drawn.read if is_sample else count * told["step"]
    complete = drawn.complete if is_sample else True
    found = lengths.summarise(told["whole"], told["kept"], told["labels"], told["cutoff"], read, complete)
    if found is None:
        return {"unknown": "no record was left after the converter"}
    return {**msgspec.to_builtins(found), "examples": _places(told, drawn, found, facts)}


def _places(told: dict[str, Any], drawn: Any, found: lengths.Lengths, facts: Facts) -> list[dict[str, Any]]:
    """Where the example records stand, with their tokens and labels."""
    from doctor.deep import sample

    files = facts["dataset.entries"][told["entry"]]["files"]
    places = []
    for place in found.examples:
        place_told = {"tokens": told["whole"][place], "labels": told["labels"][place]}
        if isinstance(drawn, sample.Sample) and place < len(drawn.records):
            one = drawn.records[place]
            line = sample.line_of(Path(files[one.file]["path"]), one.number)
            places.append({**place_told, "record": one.number, "where": f"{files[one.file]['shown']}:{line}"})
        else:
            places.append({**place_told, "record": place * told["step"] + 1, "where": files[0]["shown"]})
    return places


# -- judgements ---------------------------------------------------------------------------------------------------------
def own_parser(facts: Facts) -> Iterator[Finding]:
    """What the release's own parser refuses is a finding of the cause that its words are known for, else of its own."""
    verdict = facts["trial.parser"]
    if verdict["accepted"]:
        return
    release = facts.get("llamafactory.version", "of the target")
    message = " ".join(str(verdict["message"]).split())[:600]
    what = f"LLaMA-Factory {release} itself: {verdict['exception']}: {message}"
    said = Evidence(what, verdict["where"] or facts["recipe.path"])
    known = facts["trial.diagnosed"]
    if known:
        from doctor import details

        finding = msgspec.convert(known[0], Finding)
        finding = msgspec.structs.replace(
            finding, evidence=(said, *finding.evidence[:2]), severity=Severity.ERROR, source=SOURCE, rank=None
        )
        yield from details.complete([finding], facts)
    else:
        importing = verdict["during"] == "import"
        cause = "pkg-import-fails" if importing else "cfg-refused-by-parser"
        yield Finding(cause, (said,), source=SOURCE, details={"message": message})


def cutoff_fits(facts: Facts) -> Iterator[Finding]:
    """Records that keep nothing to learn end in a loss of NaN or 0; a cutoff that cuts most of them wastes the data."""
    for name, told in facts["trial.lengths"].items():
        if "unknown" in told:
            continue
        found = msgspec.convert({**told, "examples": []}, lengths.Lengths)
        usable = found.sampled - found.dropped
        if not usable or (not found.unlabelled and found.cut < MOSTLY * usable):
            continue
        of = f"{usable} sampled" if found.sampled < found.read else str(usable)
        evidence = []
        if found.unlabelled:
            what = (
                f'{found.unlabelled} of {of} records of "{name}" keep no token to learn under cutoff_len {found.cutoff}'
            )
            evidence.append(Evidence(what, _at(facts, "cutoff_len")))
        if found.cut:
            what = (
                f"{found.cut} of {of} are longer than cutoff_len {found.cutoff}: {found.lost:.0%} of all tokens are cut off"
                f" (median {found.quantiles['0.5']}, 99 % within {found.quantiles['0.99']} tokens)"
            )
            evidence.append(Evidence(what, _at(facts, "cutoff_len")))
        evidence += [
            Evidence(
                f"record {e['record']}: {e['tokens']} tokens, {e['labels']} of what is kept are learnt", e["where"]
            )
            for e in told["examples"]
        ]
        model = facts.get("model.config") or {}
        limit = model.get("max_position_embeddings")
        suggestion = lengths.fitting_cutoff(found, limit if isinstance(limit, int) else None)
        details: dict[str, Any] = {"entry": name, "long_rows": found.cut, "cutoff": found.cutoff}
        details |= {"model_path": facts["model.name"], "template_name": facts["recipe.values"].get("template")}
        details |= {"longest": suggestion} if suggestion else {}
        severity = Severity.ERROR if found.unlabelled == usable else Severity.WARNING
        yield Finding("data-cutoff-truncates", tuple(evidence), severity, source=SOURCE, details=details)


def _at(facts: Facts, key: str) -> str:
    line = facts["recipe.lines"].get(key)
    return f"{facts['recipe.path']}:{line}" if line else str(facts["recipe.path"])


JUDGEMENTS: tuple[Judgement, ...] = (own_parser, cutoff_fits)
