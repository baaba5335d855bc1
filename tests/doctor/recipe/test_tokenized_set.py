"""A folder of tokenised data: what it lacks for a stage, and ids that the model has no row for."""

import json

import pytest

from doctor.facts import Facts
from doctor.recipe import tokenized_judged, tokenized_set
from tests.doctor.recipe import standin

IDS = {"feature": {"dtype": "int32", "_type": "Value"}, "_type": "Sequence"}
WHOLE = {"input_ids": IDS, "labels": IDS}


def saved(folder, features, splits=("train",)):
    for split in splits or ("",):
        (folder / split).mkdir(parents=True, exist_ok=True)
        (folder / split / "dataset_info.json").write_text(json.dumps({"features": features}))
        (folder / split / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
        (folder / split / "data.arrow").write_text("x")
    if splits:
        (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))
    return folder


def test_a_whole_set(tmp_path):
    folder = saved(tmp_path, WHOLE, ("train", "validation"))
    assert tokenized_set.there(folder)
    assert tokenized_set.fault(folder, "sft", None) is None
    assert tokenized_set.splits(folder) == ["train", "validation"]


@pytest.mark.parametrize(
    ("features", "stage", "says"),
    [
        ({"text": {}}, "sft", "no column input_ids"),
        ({"input_ids": IDS}, "sft", "no column labels"),
        (WHOLE, "dpo", "no column chosen_input_ids"),
        (WHOLE | {"input_ids": {"feature": {"dtype": "float64"}}}, "sft", "names float64 as the type of input_ids"),
    ],
)
def test_what_the_stage_does_without(tmp_path, features, stage, says):
    assert says in tokenized_set.fault(saved(tmp_path, features), stage, None)


def test_pretraining_needs_no_labels(tmp_path):
    assert tokenized_set.fault(saved(tmp_path, {"input_ids": IDS}), "pt", None) is None


def test_a_set_without_splits(tmp_path):
    folder, loader = saved(tmp_path / "set", WHOLE, ()), tmp_path / "loader.py"
    loader.write_text('if "train" in dataset_dict:\n')
    assert tokenized_set.fault(folder, "sft", None) is None
    assert "no split train" in tokenized_set.fault(folder, "sft", loader)
    assert "only test" in tokenized_set.fault(saved(tmp_path / "other", WHOLE, ("test",)), "sft", None)


def test_files_that_are_not_there(tmp_path):
    folder = saved(tmp_path, WHOLE)
    (folder / "train/data.arrow").write_text("")
    assert "is empty or not there" in tokenized_set.fault(folder, "sft", None)
    (folder / "train/state.json").write_text("[]")
    assert "cannot be read" in tokenized_set.fault(folder, "sft", None)
    assert tokenized_set.widest(folder, None, 1.0) == {}


def found(ids, splits=("train",), **values):
    values = {"tokenized_path": "tok", **values}
    facts = Facts({
        "recipe.values": values, "recipe.path": "r.yaml", "recipe.lines": {}, "dataset.tokenized_fault": None,
        "dataset.tokenized_ids": ids, "dataset.tokenized_splits": list(splits), "dataset.stage": "sft",
        "model.config": {"vocab_size": 512},
    })  # fmt: skip
    return [finding.cause for finding in standin.judged(tokenized_judged.ALL, facts)]


FITTING = {"input_ids": [0, 511], "labels": [1, 511]}


def test_ids_and_splits_that_fit():
    assert found(FITTING) == []
    assert found({}) == []
    assert found(FITTING, ("train", "validation"), eval_strategy="steps") == []
    assert found(FITTING | {"input_ids": [0, 600]}, resize_vocab=True) == []


@pytest.mark.parametrize("odd", [{"input_ids": [0, 512]}, {"input_ids": [-2, 9]}, {"labels": [3, 700]}])
def test_ids_beyond_the_embedding(odd):
    assert found(FITTING | odd) == ["tok-ids-out-of-range"]


def test_nothing_to_learn_and_nothing_to_validate():
    assert found({"input_ids": [0, 9]}) == ["data-cache-corrupt"]
    assert found(FITTING, val_size=0.1, eval_strategy="steps") == ["cfg-eval-without-val"]
