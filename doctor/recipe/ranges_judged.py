"""Judgements of values that have the right type and that no run can use: empty, out of range, unknown to the scheduler."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from doctor.facts import Facts
from doctor.findings import Finding, found, in_recipe, key_of_recipe
from doctor.recipe import value_types
from doctor.recipe.looked_at import generates, looked_at
from knowledge_base.schema import Severity

_finding = partial(found, "arguments")

# Lowest and highest value, whether the highest itself is too high, and a usual one.
_RANGES: dict[str, tuple[float, float, bool, Any]] = {
    "lora_dropout": (0, 1, True, 0.0),
    "adam_beta1": (0, 1, True, 0.9),
    "adam_beta2": (0, 1, True, 0.999),
    "adam_epsilon": (0, float("inf"), False, 1e-8),
    "learning_rate": (0, float("inf"), False, None),
    "dataloader_num_workers": (0, float("inf"), False, 0),
    "preprocessing_num_workers": (1, float("inf"), False, 1),
    "max_samples": (1, float("inf"), False, None),
    "seed": (0, 2**32, True, 42),
    "data_seed": (-(2**63), 2**64, True, None),  # of torch alone
    "torch_empty_cache_steps": (1, float("inf"), False, None),
    "neftune_noise_alpha": (0, float("inf"), False, 5),
    "buffer_size": (1, float("inf"), False, 16384),
    "dataloader_prefetch_factor": (1, float("inf"), False, 2),
}
# The same of numbers that nobody refuses: nothing is learnt with them, or something else than was meant.
_NOTHING_LEFT = {"lora_dropout": 1}  # what is survived of the keys above
_SURVIVED: dict[str, tuple[float, float, bool, Any]] = {
    "weight_decay": (0, float("inf"), False, 0.0),
    "lora_alpha": (1e-9, float("inf"), False, 16),
    "loraplus_lr_ratio": (0, float("inf"), False, 16.0),
    "pref_beta": (1e-9, float("inf"), False, 0.1),
    "label_smoothing_factor": (0, 1, True, 0.0),
    "dpo_label_smoothing": (0, 0.5, True, 0.0),
    "kto_chosen_weight": (0, float("inf"), False, 1.0),
    "kto_rejected_weight": (0, float("inf"), False, 1.0),
}
# Arguments of schedulers that are numbers.
_ALL_KEYS = ("num_cycles", "lr_end", "power", "timescale", "min_lr", "min_lr_rate", "num_stable_steps", "num_decay_steps",
             "num_warmup_steps", "num_training_steps")  # fmt: skip
# Plain SGD is used with 0.1, everything else with less.
_HIGHEST_RATE = 1.0
_SHORTEST = 8  # tokens
_NEEDED = ("model_name_or_path", "dataset", "output_dir")


def _given_number(facts: Facts, value: Any) -> float | None:
    """Of a bare 1e-5 too, where the installed release reads it as a number."""
    return value_types.number(value, facts.get("arguments.loader") == "OmegaConf")


def in_range(facts: Facts) -> Iterator[Finding]:
    values = facts["recipe.values"]
    for key, (low, high, excluded, usual) in (_RANGES | _SURVIVED).items():
        given = _given_number(facts, values.get(key))
        if key not in facts["arguments.fields"] or given is None:
            continue
        if low <= given < high or (given == high and not excluded):
            continue
        if key == "torch_empty_cache_steps" and given < 0:
            continue  # divided by as well; releases that refuse it say so themselves
        limit = (
            f"at least {low:g}" if high == float("inf") else f"from {low:g} to {'below ' if excluded else ''}{high:g}"
        )
        details = key_of_recipe(facts, key) | ({} if usual is None else {"probable_value": usual})
        # Below zero, dropout is left out; what is never used may be anything.
        survived = key in _SURVIVED or (key == "lora_dropout" and given < 0) or not looked_at(facts, key)
        survived = survived or given == _NOTHING_LEFT.get(key)
        severity = Severity.WARNING if survived else None
        what = f"{key}: {given}; it must be {limit}"
        yield _finding("cfg-bad-value-type", what, in_recipe(facts, key), severity, **details)


# Of generation: the lowest value, whether it is itself too low, whether only sampling looks at it, and a usual one.
_OF_ANSWERS: dict[str, tuple[float, bool, bool, Any]] = {
    "temperature": (0, True, True, 0.95),
    "top_p": (0, False, True, 0.7),
    "top_k": (0, False, True, 50),
    "num_beams": (1, False, False, 1),
    "repetition_penalty": (0, True, False, 1.0),
}


def answers_can_be_made(facts: Facts) -> Iterator[Finding]:
    """transformers looks at these when the first answer is made."""
    values = facts["recipe.values"]
    for key, (low, excluded, of_sampling, usual) in _OF_ANSWERS.items():
        given = _given_number(facts, values.get(key))
        if given is None or given > low or (given == low and not excluded) or key not in facts["arguments.fields"]:
            continue
        if generates(values) and not (of_sampling and values.get("do_sample") is False):
            what = f"{key}: {given:g}; it must be {'above' if excluded else 'at least'} {low:g}"
            details = key_of_recipe(facts, key) | {"probable_value": usual}
            if key == "temperature" and given == 0:
                what += ", or do_sample: false, which takes the likeliest token"
            yield _finding("cfg-bad-value-type", what, in_recipe(facts, key), **details)


def rate_learns(facts: Facts) -> Iterator[Finding]:
    """A rate of 0 trains nothing; of one that is far too high (a lost minus: 1e+5) only a loss of NaN is left."""
    key = "learning_rate"
    given = _given_number(facts, facts["recipe.values"].get(key))
    if given is None or 0 < given < _HIGHEST_RATE or given < 0:
        return
    why = "nothing is learnt" if given == 0 else "no optimizer converges with it; is the minus of the exponent lost?"
    details = key_of_recipe(facts, key)
    yield _finding("cfg-bad-value-type", f"{key}: {given}; {why}", in_recipe(facts, key), Severity.WARNING, **details)


def text_left(facts: Facts) -> Iterator[Finding]:
    """A cutoff of which the template alone takes all: 2 for 2k."""
    given, key = facts["recipe.values"].get("cutoff_len"), "cutoff_len"
    if isinstance(given, int) and not isinstance(given, bool) and 1 <= given < _SHORTEST:
        details = key_of_recipe(facts, key)
        what = f"{key}: {given} tokens; the template of one turn takes more, so that nothing is left to learn from"
        yield _finding("cfg-bad-value-type", what, in_recipe(facts, key), Severity.WARNING, **details)


def evaluates_some(facts: Facts) -> Iterator[Finding]:
    """Numbers that only an evaluation meets: a batch of none, and steps by which it divides (below zero it goes well)."""
    values = facts["recipe.values"]
    if not any(values.get(name) for name in ("do_eval", "do_predict", "val_size", "eval_dataset")):
        return
    batch, steps = values.get("per_device_eval_batch_size"), values.get("eval_accumulation_steps")
    wrong = [("per_device_eval_batch_size", batch)] if type(batch) is int and batch < 1 else []
    wrong += [("eval_accumulation_steps", steps)] if type(steps) is int and steps == 0 else []
    for key, given in wrong:
        details = {**key_of_recipe(facts, key), "probable_value": 1}
        what = f"{key}: {given}; at least 1 is needed"
        yield _finding("cfg-bad-value-type", what, in_recipe(facts, key), **details)


def not_empty(facts: Facts) -> Iterator[Finding]:
    """An empty text or list passes the checks for what is not given at all."""
    values = facts["recipe.values"]
    for key in _NEEDED:
        if key not in values or key not in facts["arguments.fields"] or values[key] not in ("", []):
            continue
        short = {
            "model_name_or_path": "model_missing",
            "dataset": "dataset_missing",
            "output_dir": "output_dir_missing",
        }
        details: dict[str, Any] = {"key": key, short[key]: True}
        if key == "output_dir":
            details["output_dir_suggestion"] = f"saves/{values.get('finetuning_type', 'lora')}"
        yield _finding("cfg-missing-argument", f'"{key}" is empty', in_recipe(facts, key), **details)


def template_named(facts: Facts) -> Iterator[Finding]:
    if facts["recipe.values"].get("template") == "" and "template" in facts["arguments.fields"]:
        fitting = facts.get("template.expected") or facts.get("template.of_type")
        details: dict[str, Any] = {"fitting_template": fitting} if fitting else {}
        yield _finding("tmpl-missing", '"template" is empty', in_recipe(facts, "template"), **details)


def scheduler_keys(facts: Facts) -> Iterator[Finding]:
    """What the function of the scheduler does not take ends the run when the scheduler is made."""
    values = facts["recipe.values"]
    kind, given = str(values.get("lr_scheduler_type", "linear")), values.get("lr_scheduler_kwargs")
    if not isinstance(given, Mapping):
        return
    for name, value in given.items():
        if name in _ALL_KEYS and value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            number = _number(value) if facts["arguments.loader"] != "OmegaConf" or name not in _ALL_KEYS else None
            hint = (
                f"; {value} is text in YAML 1.1, {number!r} is a number"
                if number is not None
                else "; a number is needed"
            )
            what = f"lr_scheduler_kwargs: {name} is {str(value)[:40]!r}{hint}"
            details = key_of_recipe(facts, "lr_scheduler_kwargs")
            yield _finding("cfg-bad-value-type", what, in_recipe(facts, "lr_scheduler_kwargs"), **details)
    if given.get("min_lr") is not None and given.get("min_lr_rate") is not None:
        what = "lr_scheduler_kwargs: min_lr and min_lr_rate exclude each other"
        yield _finding("cfg-conflicting-args", what, in_recipe(facts, "lr_scheduler_kwargs"), key="lr_scheduler_kwargs")
    end, rate = given.get("lr_end"), values.get("learning_rate", 5e-5)
    if kind == "polynomial" and isinstance(end, (int, float)) and isinstance(rate, (int, float)) and end >= rate:
        what = f"lr_scheduler_kwargs: lr_end {end:g} must be below learning_rate {rate:g}"
        yield _finding("cfg-conflicting-args", what, in_recipe(facts, "lr_scheduler_kwargs"), key="lr_scheduler_kwargs")
    taken = facts.get("arguments.scheduler_takes")
    foreign = [key for key in given if key not in taken["keys"]] if taken else []
    if foreign:
        takes = ", ".join(taken["keys"]) or "none"
        outcome = "" if taken["passed_on"] else "; this transformers gives it none of them, and trains"
        what = f"lr_scheduler_kwargs: {', '.join(foreign)} is not taken by the scheduler {kind}, which takes {takes}"
        where, severity = in_recipe(facts, "lr_scheduler_kwargs"), None if taken["passed_on"] else Severity.WARNING
        yield _finding("cfg-conflicting-args", what + outcome, where, severity, key="lr_scheduler_kwargs")


def _number(text: Any) -> float | None:
    try:
        return float(text) if isinstance(text, str) else None
    except ValueError:
        return None


def metric_measured(facts: Facts) -> Iterator[Finding]:
    """Without compute_accuracy or predict_with_generate the evaluation measures the loss alone."""
    values = facts["recipe.values"]
    metric = values.get("metric_for_best_model")
    asked = values.get("load_best_model_at_end") or values.get("lr_scheduler_type") == "reduce_lr_on_plateau"
    if not (asked or values.get("save_strategy") == "best") or not isinstance(metric, str):
        return
    measures = any(values.get(key) for key in ("compute_accuracy", "predict_with_generate"))
    plain = metric.removeprefix("eval_")
    if values.get("stage", "sft") in ("sft", "pt") and not measures and not _of_loss(plain, values.get("eval_dataset")):
        what = f"metric_for_best_model: {metric}, and the evaluation measures nothing but the loss"
        details: dict[str, Any] = {"metric_unmeasured": True, "key": "metric_for_best_model"}
        yield _finding("cfg-best-model-strategy", what, in_recipe(facts, "metric_for_best_model"), **details)


def _of_loss(metric: str, eval_dataset: Any) -> bool:
    """loss, or the loss of one of the evaluation sets; and what every evaluation says of its own speed."""
    names = eval_dataset if isinstance(eval_dataset, list) else str(eval_dataset or "").split(",")
    of_sets = {f"{str(name).strip()}_loss" for name in names}
    return metric == "loss" or metric in of_sets or metric.endswith(("runtime", "per_second"))


ALL = (
    text_left, answers_can_be_made, rate_learns, evaluates_some, in_range, not_empty, template_named, scheduler_keys,
    metric_measured,
)  # fmt: skip
