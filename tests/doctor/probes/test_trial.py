"""The trial of a recipe by the target's own code: its verdict word for word, lengths, and a deadline for whatever hangs."""

import json
import os
import sys
import time
from pathlib import Path

import msgspec
import pytest
import yaml

from doctor.facts import Facts
from doctor.probes import dataset, recipe, trial
from tests.doctor.deep import standin
from tests.support.targets import make_target

RECORDS = [{"instruction": "a b", "output": "c " * length} for length in (1, 2, 3, 4, 400)]


@pytest.fixture
def tried(tmp_path):
    """What the trial tells of a recipe with these values."""

    def run(budget=60.0, records=RECORDS, world=None, **values):
        standin.write(tmp_path / "site")
        data = tmp_path / "work" / "data"
        data.mkdir(parents=True, exist_ok=True)
        (data / "d.json").write_text(json.dumps(records, indent=1), encoding="utf-8")
        (data / "dataset_info.json").write_text('{"sky": {"file_name": "d.json"}}', encoding="utf-8")
        text = yaml.safe_dump({"stage": "sft", "do_train": True, "dataset": "sky", "model_name_or_path": "m", **values})
        paths = [str(tmp_path / "site"), *(p for p in sys.path if p.endswith("site-packages"))]
        around = {"PYTHONPATH": os.pathsep.join(paths), "PATH": os.defpath}
        made = msgspec.structs.replace(make_target(tmp_path, text, around), deep=True, budget=budget)
        facts = Facts({"llamafactory.version": "9.9", "llamafactory.root": None, "launch.force_torchrun": world is not None,
                       "launch.nproc": world, "launch.node_rank": 0, "launch.world_size": world, "gpu.count": 0,
                       "model.name": "m", "model.config": {"max_position_embeddings": 512}})  # fmt: skip
        for probe in (recipe, dataset, trial):
            facts = facts.merged(probe.collect(made, facts))
        return facts, [f for judgement in trial.JUDGEMENTS if facts.known("trial.parser") for f in judgement(facts)]

    return run


def test_an_accepted_recipe_and_the_lengths_of_its_data(tried):
    facts, found = tried()
    assert facts["trial.parser"]["accepted"] is True
    told = facts["trial.lengths"]["sky"]
    assert (told["sampled"], told["read"], told["complete"], told["cut"]) == (5, 5, True, 0)
    assert told["quantiles"] == {"0.5": 5, "0.9": 402, "0.95": 402, "0.99": 402, "1": 402}
    assert sum(bar["count"] for bar in told["bars"]) == 5
    assert found == []


def test_a_refusal_is_the_cause_that_its_words_are_known_for(tried):
    facts, found = tried(bf16=True, fp16=True)
    verdict = facts["trial.parser"]
    assert verdict["message"] == "At most one of fp16 and bf16 can be True, but not both"
    assert verdict["where"].startswith("llamafactory/hparams.py:")
    assert [(f.cause, f.severity.value, f.source) for f in found] == [
        ("cfg-bf16-fp16-conflict", "error", "probe:trial")
    ]
    assert "not both" in found[0].evidence[0].what
    assert (
        facts["trial.lengths"]["sky"]["sampled"] == 5
    )  # what the refused settings have nothing to do with is measured


def test_a_refusal_in_words_that_nobody_knows_is_quoted(tried):
    _, found = tried(odd=1)
    assert [f.cause for f in found] == ["cfg-refused-by-parser"]
    assert "Nobody has met this message before." in found[0].evidence[0].what


def test_records_that_keep_nothing_to_learn(tried):
    facts, found = tried(cutoff_len=2)
    assert facts["trial.lengths"]["sky"]["unlabelled"] == 5
    assert [(f.cause, f.severity.value) for f in found] == [("data-cutoff-truncates", "error")]
    assert found[0].details["longest"] == 448
    places = [item.where for item in found[0].evidence[2:]]
    assert places == ["data/d.json:2", "data/d.json:6", "data/d.json:10"]


def test_most_records_are_cut(tried):
    _, found = tried(cutoff_len=3)
    assert [(f.cause, f.severity.value) for f in found] == [("data-cutoff-truncates", "warning")]
    assert "4 of 5 are longer than cutoff_len 3" in found[0].evidence[0].what


def test_a_record_that_the_release_drops_is_counted(tried):
    facts, _ = tried(records=[*RECORDS, {"instruction": "", "output": "x"}])
    assert facts["trial.lengths"]["sky"]["dropped"] == 1


def test_a_parser_that_hangs_is_unknown_at_the_deadline(tried):
    begun = time.monotonic()
    facts, _ = tried(budget=2.0, learning_rate="hang")
    assert time.monotonic() - begun < 10
    assert "had not answered" in facts.why_unknown("trial.parser")


def test_an_environment_that_cannot_be_imported(tried, monkeypatch):
    files = {**standin.FILES, "llamafactory/train/tuner.py": "import nothing_of_that_name\n"}
    monkeypatch.setattr(standin, "FILES", files)
    facts, found = tried()
    assert (facts["trial.parser"]["accepted"], facts["trial.parser"]["during"]) == (False, "import")
    assert found[0].cause in ("pkg-missing", "pkg-import-fails")


def test_a_recipe_of_another_subcommand_is_not_tried(tmp_path):
    made = make_target(tmp_path, "model_name_or_path: m\nexport_dir: x\n")
    facts = Facts({"llamafactory.version": "9.9"})
    facts = facts.merged(recipe.collect(made, facts))
    assert "not one of `train`" in Facts(trial.collect(made, facts)).why_unknown("trial.parser")


def test_nothing_of_the_child_is_left(tried):
    tried()
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children if Path(f"/proc/{pid}").exists()]
    assert not any(b"trial_child" in command for command in commands)
