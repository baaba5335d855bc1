"""Faults that only the installed libraries' own source tells: what a release takes, makes, and reads in which order."""

from __future__ import annotations

import json
from typing import Any

import yaml

from tests.faults.catalogue.data import folder
from tests.faults.catalogue.model import WHOLE, config, of_json, text
from tests.faults.catalogue.recipe import line, renamed_file, second_line, values
from tests.faults.catalogue.weights import of_shards
from tests.faults.fault import Fault, Inject
from tests.faults.workspace import Workspace

HAND = {"healable": False}
CURRENT = "current full"


def in_json(place: Workspace) -> None:
    place.recipe.write_text(json.dumps(yaml.safe_load(place.recipe.read_text()), indent=1))
    renamed_file(".json")(place)


def of_index(**changed: Any) -> Inject:
    def change(model: Any) -> None:
        index = model / "model.safetensors.index.json"
        index.write_text(json.dumps({**json.loads(index.read_text()), **changed}))

    return of_shards(change)


def processing(kind: str) -> Inject:
    return of_json("tokenizer.json", post_processor={"type": kind})


def vocabulary_listed(before: str) -> str:
    content = json.loads(before)
    content["model"]["vocab"] = list(content["model"]["vocab"])
    return json.dumps(content)


def long_in_words(place: Workspace) -> None:
    place.keep_a_copy()
    (place.model / "generation_config.json").write_text('{"max_new_tokens": "many"}')


def instructions(**more: str) -> str:
    return json.dumps([{"instruction": "Add.", "input": "", "output": "ok", **more}] * 8)


def one_column_more(place: Workspace) -> None:
    """In the file that is listed second, whichever that is on this disk."""
    folder(("a.json", lambda _: instructions()), ("b.json", lambda _: instructions()))(place)
    list(place.data.with_name("parts").iterdir())[1].write_text(instructions(source="web"))
    place.info.write_text(json.dumps({"Sky-T1": {"file_name": "parts"}}))


def unusable(id: str, what: str, inject: Inject, base: str = "sky-t1 full") -> Fault:
    return Fault(id, "model-config-invalid-json", what, inject, base, WHOLE)


FAULTS = [
    Fault("tab-behind-a-colon", "cfg-yaml-syntax", "a tab between key and value", second_line("warmup_steps:\t1"), **HAND),
    Fault("recipe-in-json-current", "cfg-json-config-broken", "a recipe as JSON", in_json, CURRENT, **HAND),
    Fault("rate-negative-bare", "cfg-bad-value-type", "learning_rate: -1e-5", line("learning_rate: -1e-5"), CURRENT, **HAND),
    Fault("attention-of-no-code", "cfg-invalid-choice", "flash_attn: fa3", values(flash_attn="fa3"), CURRENT, **HAND),
    Fault("longer-context", "cfg-conflicting-args", "rope_scaling for more than the model's length",
          values(rope_scaling="linear", cutoff_len=4096), CURRENT, **HAND),
    Fault("scheduler-arguments-as-list", "cfg-bad-value-type", "lr_scheduler_kwargs: [1]",
          values(lr_scheduler_kwargs=[1]), **HAND),
    Fault("scheduler-stages-misspelt", "cfg-conflicting-args", "num_stable_step for num_stable_steps",
          values(lr_scheduler_type="warmup_stable_decay",
                 lr_scheduler_kwargs={"num_stable_step": 1, "num_decay_steps": 1}), **HAND),
    Fault("folder-with-one-more-column", "data-schema-mixed-types", "the second file of a folder has a column more",
          one_column_more, **HAND),
    unusable("epsilon-whole-number", "rms_norm_eps: 0", config(rms_norm_eps=0), CURRENT),
    unusable("theta-list", "rope_theta: [10000]", config(rope_theta=[10000])),
    unusable("dtype-of-8-bits", "dtype: float8_e4m3fn", config(dtype="float8_e4m3fn", torch_dtype=None), CURRENT),
    unusable("attention-of-config-unknown", "_attn_implementation: eagerr", config(_attn_implementation="eagerr")),
    unusable("attention-of-config-unknown-current", "_attn_implementation: eagerr",
             config(_attn_implementation="eagerr"), CURRENT),
    unusable("generation-length-in-words", "max_new_tokens: many", long_in_words),
    Fault("index-without-metadata", "model-corrupt-safetensors", "metadata: null in the index", of_index(metadata=None),
          arguments=WHOLE),
    Fault("index-empty", "model-corrupt-safetensors", "an index that names no tensor", of_index(weight_map={}), CURRENT,
          arguments=WHOLE),
    Fault("processing-without-template", "tok-load-failed", "TemplateProcessing without its template",
          processing("TemplateProcessing"), arguments=WHOLE),
    Fault("processing-without-ends", "tok-load-failed", "RobertaProcessing without sep", processing("RobertaProcessing"),
          CURRENT, arguments=WHOLE),
    Fault("vocabulary-list", "tok-load-failed", "a vocabulary that is a list", text("tokenizer.json", vocabulary_listed),
          arguments=WHOLE),
]  # fmt: skip
