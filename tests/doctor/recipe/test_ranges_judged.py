"""Numbers beyond what LLaMA-Factory and the Trainer can use, and their neighbours that train."""

import pytest

from doctor.facts import Facts
from doctor.recipe import ranges_judged
from knowledge_base.schema import Severity
from tests.doctor.recipe import standin

FIELDS = {
    key: {}
    for key in (
        *ranges_judged._RANGES,
        *ranges_judged._SURVIVED,
        *ranges_judged._OF_ANSWERS,
        "model_name_or_path",
        "dataset",
        "output_dir",
        "template",
    )
}


def found(**values):
    known = {"recipe.values": values, "recipe.path": "r.yaml", "recipe.lines": {key: 1 for key in values}}
    facts = Facts({**known, "arguments.fields": FIELDS, "arguments.loader": "yaml"})
    return standin.judged(ranges_judged.ALL, facts)


@pytest.mark.parametrize(
    "values",
    [
        {"val_size": 0.1, "eval_accumulation_steps": 0},
        {"do_eval": True, "per_device_eval_batch_size": 0},
        {"seed": -1},
        {"learning_rate": -1e-5},
        {"cutoff_len": 2},
        {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": "1e-6"}},
    ],
)
def test_numbers_that_no_run_survives(values):
    assert [finding.cause for finding in found(**values)] == ["cfg-bad-value-type"]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"val_size": 0.1, "eval_accumulation_steps": -1},  # it divides without a rest, as 1 does
        {"val_size": 0.1, "eval_accumulation_steps": 4},
        {"eval_accumulation_steps": 0},  # nothing is evaluated
        {"per_device_eval_batch_size": 0},
        {"seed": 0, "cutoff_len": 16384, "learning_rate": 1e-5},
        {"eval_accumulation_steps": "0", "seed": True, "cutoff_len": None, "learning_rate": []},
        {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 1e-6}},
        {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss"},
    ],
)
def test_neighbours_that_train(values):
    assert found(**values) == []


@pytest.mark.parametrize(
    "values",
    [{"lora_alpha": 0}, {"weight_decay": -0.1}, {"lora_dropout": -1}, {"pref_beta": 0}, {"label_smoothing_factor": 1.5},
     {"buffer_size": 0}, {"dpo_label_smoothing": 0.5}],
)  # fmt: skip
def test_numbers_that_a_run_survives(values):
    assert [finding.severity for finding in found(**values)] == [Severity.WARNING]


def test_divisors():
    assert [finding.severity for finding in found(torch_empty_cache_steps=0)] == [None]
    assert found(torch_empty_cache_steps=-1) == []
    assert [finding.severity for finding in found(buffer_size=0, streaming=True)] == [None]


def test_what_is_empty_and_what_excludes_each_other():
    assert [f.cause for f in found(dataset="", output_dir=[])] == ["cfg-missing-argument"] * 2
    assert [f.cause for f in found(template="")] == ["tmpl-missing"]
    both = {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 1e-6, "min_lr_rate": 0.1}}
    assert "cfg-conflicting-args" in [f.cause for f in found(**both)]
    unmeasured = {"load_best_model_at_end": True, "metric_for_best_model": "accuracy"}
    assert [f.cause for f in found(**unmeasured)] == ["cfg-best-model-strategy"]


def test_a_bare_exponent_is_a_number_where_it_is_read_as_one():
    known = {"recipe.values": {"learning_rate": "-1e-5"}, "recipe.path": "r.yaml", "recipe.lines": {}}
    facts = Facts({**known, "arguments.fields": FIELDS, "arguments.loader": "OmegaConf"})
    assert [finding.cause for finding in standin.judged(ranges_judged.ALL, facts)] == ["cfg-bad-value-type"]
    assert found(learning_rate="-1e-5") == []


@pytest.mark.parametrize(("passed_on", "severity"), [(True, None), (False, Severity.WARNING)])
def test_what_the_scheduler_does_not_take(passed_on, severity):
    known = {"recipe.values": {"lr_scheduler_kwargs": {"min_lr": 1e-6}}, "recipe.path": "r.yaml", "recipe.lines": {}}
    taken = {"keys": ["timescale"], "passed_on": passed_on}
    facts = Facts({**known, "arguments.fields": FIELDS, "arguments.loader": "yaml", "arguments.scheduler_takes": taken})
    (finding,) = standin.judged(ranges_judged.ALL, facts)
    assert (finding.cause, finding.severity) == ("cfg-conflicting-args", severity)


@pytest.mark.parametrize(
    ("values", "fault"),
    [({"temperature": 0}, True), ({"temperature": 0, "do_sample": False}, False), ({"temperature": 0.1}, False),
     ({"top_p": -1}, True), ({"top_p": 0}, False), ({"top_k": -1}, True), ({"top_k": 0}, False), ({"num_beams": 0}, True),
     ({"repetition_penalty": 0, "do_sample": False}, True), ({"temperature": "0"}, False), ({"top_k": True}, False)],
)  # fmt: skip
def test_how_answers_are_made(values, fault):
    assert found(**values) == []
    made = found(**values, predict_with_generate=True, do_predict=True)
    assert [finding.cause for finding in made] == (["cfg-bad-value-type"] if fault else [])


def test_with_a_dropout_of_one_nothing_is_learnt_and_nobody_refuses_it():
    (finding,) = found(lora_dropout=1.0)
    assert (finding.cause, finding.severity) == ("cfg-bad-value-type", Severity.WARNING)
    assert found(lora_dropout=0.99) == []
