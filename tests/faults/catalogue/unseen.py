"""Faults that a stranger made and that check had not seen: one of each mechanism that they led to."""

from __future__ import annotations

import json

from tests.faults.catalogue.adapters import with_config
from tests.faults.catalogue.data import alpaca, other_file
from tests.faults.catalogue.deepspeed import config as deepspeed
from tests.faults.catalogue.deepspeed import environ, zero
from tests.faults.catalogue.model import WHOLE
from tests.faults.catalogue.recipe import values
from tests.faults.fault import Fault, Inject, together
from tests.faults.workspace import Workspace

CURRENT, LORA, HAND = "current full", "current lora", {"healable": False}
CSV = "instruction,input,output\n" + "Add,,It\n" * 8 + 'Add,,"It is\n' + "Add,,It\n" * 7
TAGS = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
        "system_tag": "system"}  # fmt: skip
HISTORY = {"prompt": "instruction", "query": "input", "response": "output", "history": "history"}


def quoted(place: Workspace) -> None:
    other_file("sky-t1.csv", lambda place: CSV)(place)
    place.info.write_text(json.dumps({"Sky-T1": {"file_name": "sky-t1.csv"}}, indent=2))


def calls(given: object) -> Inject:
    """An assistant's tool_calls in the form of OpenAI."""

    def inject(place: Workspace) -> None:
        answer = {"role": "assistant", "content": "It is 3.", "tool_calls": given}
        place.write_rows([{"messages": [{"role": "user", "content": f"Add {n}."}, answer]} for n in range(16)])
        entry = {
            "file_name": place.data.name,
            "formatting": "openai",
            "columns": {"messages": "messages"},
            "tags": TAGS,
        }
        place.info.write_text(json.dumps({"Sky-T1": entry}, indent=2))

    return inject


def role_left_out(place: Workspace) -> None:
    """With the tags that sharegpt has by itself."""
    turns = [[{"from": "human", "value": f"Add {n}."}, {"from": "gpt", "value": "Yes."}] for n in range(16)]
    turns[2][0].pop("from")
    place.write_rows([{"conversations": one} for one in turns])
    place.info.write_text(json.dumps({"Sky-T1": {"file_name": place.data.name, "formatting": "sharegpt"}}, indent=2))


def vocabulary_cut(place: Workspace) -> None:
    """A slow tokenizer alone, whose vocabulary ends in the middle."""
    place.keep_a_copy()
    (place.model / "tokenizer.json").unlink()
    (place.model / "vocab.json").write_text('{"a": 1,')
    (place.model / "merges.txt").write_text("#version: 0.2\n")
    place.edit_json(place.model / "tokenizer_config.json", tokenizer_class="Qwen2Tokenizer")


def sentencepiece_cut(place: Workspace) -> None:
    place.keep_a_copy()
    (place.model / "tokenizer.json").unlink()
    (place.model / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>")


def proxy(id: str, name: str, value: str) -> Fault:
    return Fault(id, "launch-variable-invalid", f"{name}={value}", environ(**{name: value}), fresh=True, healable=False)


FAULTS = [
    Fault("csv-quotation-open", "data-invalid-json", "a quotation mark of a .csv is never closed", quoted, **HAND),
    Fault("history-of-objects", "data-schema-mixed-types", "a history of objects, whose keys are taken for the turns",
          alpaca({"output": "11", "history": [{"user": "Add 1.", "bot": "2"}]}, **HISTORY), CURRENT,
          shows=r"labels:\s*bot<", **HAND),
    Fault("calls-as-text", "data-tools-invalid-json", "tool_calls written as text", calls("add(1)"), CURRENT, **HAND),
    Fault("calls-without-function", "data-tools-invalid-json", "tool_calls whose entries have no function",
          calls([{"name": "add", "arguments": "{}"}]), CURRENT, **HAND),
    Fault("role-left-out", "data-role-tag-mismatch", "a turn without its role: its record is dropped", role_left_out,
          CURRENT, warns=True, **HAND),
    Fault("vocabulary-cut", "tok-load-failed", "vocab.json is cut, and there is no tokenizer.json", vocabulary_cut,
          arguments=WHOLE),
    Fault("sentencepiece-cut", "tok-load-failed", "tokenizer.model is cut, and there is no tokenizer.json",
          sentencepiece_cut, arguments=WHOLE),
    Fault("adapter-layers-absent", "peft-adapter-mismatch", "layers_to_transform: [9], of a model of two layers",
          with_config(layers_to_transform=[9]), "sky-t1 lora", **HAND),
    Fault("cache-dir-unwritable", "disk-readonly", "cache_dir: /proc/cache", values(cache_dir="/proc/cache"), **HAND),
    proxy("proxy-port-in-words", "HTTPS_PROXY", "proxy.local:abc"),
    proxy("proxy-scheme-misspelt", "HTTPS_PROXY", "htp://proxy.local:3128"),
    Fault("recipe-empty", "cfg-yaml-syntax", "an empty recipe", lambda place: place.recipe.write_text("") and None, **HAND),
    Fault("quantised-by-none", "cfg-invalid-choice", "quantization_method: gptq, which does nothing while loading",
          values(quantization_bit=4, quantization_method="gptq"), LORA, warns=True, **HAND),
    Fault("dropout-of-all", "cfg-bad-value-type", "lora_dropout: 1.0", values(lora_dropout=1.0), LORA, warns=True),
    Fault("ds-offload-unused", "ds-config-invalid", "offload_param under ZeRO-2", zero(offload_param={"device": "cpu"}),
          "current full zero2", warns=True, **HAND),
    Fault("ds-total-nan", "ds-config-hf-mismatch", "train_batch_size: NaN",
          together(deepspeed(train_batch_size=float("nan"))), "current full zero2"),
]  # fmt: skip
