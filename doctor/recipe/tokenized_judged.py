"""Judgements of a tokenised data set, which is trained on as it is: pure functions of the facts of tokenized_set."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from doctor.facts import Facts
from doctor.findings import Finding, found, in_recipe
from knowledge_base.schema import Severity

_finding = partial(found, "dataset")


def _details(facts: Facts) -> dict[str, Any]:
    path = str(facts["recipe.values"]["tokenized_path"])
    return {"tokenized_path": path, "cache_path": path}


def tokenized_whole(facts: Facts) -> Iterator[Finding]:
    fault = facts["dataset.tokenized_fault"]
    if fault:
        details = _details(facts)
        what = f"tokenized_path {details['tokenized_path']} is no whole data set: {fault}"
        yield _finding("data-cache-corrupt", what, in_recipe(facts, "tokenized_path"), **details)


def tokenized_ids_fit(facts: Facts) -> Iterator[Finding]:
    """Ids were counted by the tokenizer that made the set; this model's embedding has a row for each or the run ends."""
    widest, values = facts["dataset.tokenized_ids"], facts["recipe.values"]
    rows = (facts.get("model.weights") or {}).get("rows") or (facts.get("model.config") or {}).get("vocab_size")
    if not widest or type(rows) is not int or values.get("resize_vocab"):
        return
    for name, (low, high) in widest.items():
        if low >= 0 and high < rows:
            continue
        details = _details(facts) | {"highest_id": high, "rows": rows}
        odd = low if low < 0 else high
        what = f"tokenized_path: {name} hold the id {odd}, the model's embedding has {rows} rows (ids 0 to {rows - 1})"
        yield _finding("tok-ids-out-of-range", what, in_recipe(facts, "tokenized_path"), **details)
        return


def tokenized_teaches(facts: Facts) -> Iterator[Finding]:
    """Labels of nothing but -100 are read as none at all: the set was made with all of its text masked."""
    widest = facts["dataset.tokenized_ids"]
    if "input_ids" in widest and "labels" not in widest and facts["dataset.stage"] == "sft":
        what = "tokenized_path: no record has a label that is learnt, all are -100"
        where = in_recipe(facts, "tokenized_path")
        yield _finding("data-cache-corrupt", what, where, Severity.WARNING, **_details(facts))


def tokenized_validates(facts: Facts) -> Iterator[Finding]:
    """The set is taken as it is: val_size and eval_dataset cut nothing off it."""
    values, names = facts["recipe.values"], facts["dataset.tokenized_splits"]
    asked = str(values.get("eval_strategy", "no")) not in ("no", "False") and not facts["dataset.tokenized_fault"]
    if names and asked and not any(name.startswith("validation") for name in names):
        what = "eval_strategy, and the tokenised data have no split validation; val_size is not looked at there"
        details = _details(facts) | {"key": "eval_strategy", "do_eval": bool(values.get("do_eval"))}
        details["load_best_model"] = bool(values.get("load_best_model_at_end"))
        yield _finding("cfg-eval-without-val", what, in_recipe(facts, "eval_strategy"), **details)


ALL = (tokenized_whole, tokenized_ids_fit, tokenized_teaches, tokenized_validates)
