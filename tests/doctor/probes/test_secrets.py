import json
import os

import msgspec

from doctor.facts import Facts
from doctor.probes import secrets
from tests.support.worlds import world

HF = "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZ01234567"
WANDB = "0123456789abcdef" * 2 + "01234567"


def collected(tmp_path, recipe="stage: sft\n", values=None):
    target = world(tmp_path, recipe)
    return secrets.collect(target, Facts({"recipe.values": values or {}}))


def places(found):
    return [(s["file"], s["line"], s["kind"]) for s in found["secrets.found"]]


def test_nothing_to_find(tmp_path):
    found = collected(tmp_path)
    assert (found["secrets.found"], found["secrets.files"]) == ([], 1)
    assert list(secrets.token_in_file(Facts(found))) == []


def test_each_kind_of_file(tmp_path):
    work = tmp_path / "work"
    (work / "data").mkdir(parents=True)
    (work / ".skyt1-doctor").mkdir()
    (tmp_path / "home").mkdir()
    (work / "ds.json").write_text('{\n "x": "' + HF + '"\n}\n')
    (work / "data" / "dataset_info.json").write_text('{"a": {"hf_hub_token": "' + HF + '"}}')
    (work / ".deepspeed_env").write_text(f"PATH=/usr/bin\nHF_TOKEN={HF}\n")
    (tmp_path / "home" / ".deepspeed_env").write_text(f"WANDB_API_KEY={WANDB}\n")
    (work / "train.sh").write_text(f"#!/bin/sh\nwandb login {WANDB}\n")
    (work / ".skyt1-doctor" / "launch.env").write_text(f"HF_TOKEN={HF}\n")
    found = collected(tmp_path, f"stage: sft\nhf_hub_token: {HF}\n", {"deepspeed": "ds.json"})
    assert places(found) == [
        ("recipe.yaml", 2, "Hugging Face token"),
        ("ds.json", 2, "Hugging Face token"),
        ("data/dataset_info.json", 1, "Hugging Face token"),
        (".deepspeed_env", 2, "Hugging Face token"),
        (".skyt1-doctor/launch.env", 1, "Hugging Face token"),
        (str(tmp_path / "home" / ".deepspeed_env"), 1, "key or token"),
        ("train.sh", 2, "key or token"),
    ]
    assert HF not in json.dumps(found)
    assert WANDB not in json.dumps(found)
    findings = list(secrets.token_in_file(Facts(found)))
    assert {f.cause for f in findings} == {"sec-token-in-file"}
    assert findings[0].evidence[0].where == "recipe.yaml:2"


def test_the_newest_logs(tmp_path):
    work = tmp_path / "work"
    work.mkdir(parents=True)
    for number in range(secrets.MAX_LOGS + 1):
        log = work / f"run{number}.log"
        log.write_text(f"step {number}\nHF_TOKEN={HF}\n")
        os.utime(log, (number, number))
    found = [place for place, *_ in places(collected(tmp_path))]
    assert found == [f"run{number}.log" for number in range(secrets.MAX_LOGS, 0, -1)]


def test_a_placeholder_and_ordinary_settings_are_no_secrets(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    (work / "run.sh").write_text(
        "export HF_TOKEN=$MY_TOKEN\nexport WANDB_API_KEY=<your key>\n"
        "MASTER_PORT=29501\nmax_new_tokens=512\ntoken_path=/home/user/.cache/huggingface/token\n"
    )
    assert (
        collected(tmp_path, "tokenized_path: saves/tokenized_dataset_v1\nnum_tokens: 123456789012345678\n")[
            "secrets.found"
        ]
        == []
    )


def test_a_token_on_the_command_line(tmp_path):
    target = msgspec.structs.replace(world(tmp_path), overrides={"hf_hub_token": HF, "cutoff_len": "512"})
    found = secrets.collect(target, Facts({"recipe.values": {}}))
    (finding,) = secrets.token_on_command_line(Facts(found))
    assert (finding.cause, finding.evidence[0].where) == ("sec-token-on-cmdline", "hf_hub_token")
    assert HF not in json.dumps(found)


def test_a_file_is_read_once_and_only_its_beginning(tmp_path, monkeypatch):
    work = tmp_path / "work"
    work.mkdir()
    (work / "a.sh").write_text(f"export HF_TOKEN={HF}\n")
    (work / "b.sh").symlink_to(work / "a.sh")
    (work / "c.sh").write_text("#" * secrets.MAX_FILE + f"\nHF_TOKEN={HF}\n")
    assert places(collected(tmp_path)) == [("a.sh", 1, "Hugging Face token")]


def test_an_unreadable_file_is_said(tmp_path, monkeypatch):
    def refuses(file):
        raise PermissionError(13, "Permission denied")
        yield

    monkeypatch.setattr(secrets, "_scan", refuses)
    found = collected(tmp_path)
    assert found["secrets.unread"] == ["recipe.yaml: Permission denied"]
