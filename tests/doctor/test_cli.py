"""The commands as users meet them: exit codes, one clear sentence for bad input, JSON always whole, secrets never shown."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from demo import workspace

DOCTOR = str(Path(sys.executable).parent / "skyt1-doctor")
TOKEN = "hf_" + "MadeUp1" * 5
WANDB_KEY = "0a1b2c3d4e" * 4


# Root may read and write everything, unless it does without these two capabilities.
DROPPED = "-dac_override,-dac_read_search"
BOUND = ("setpriv", "--bounding-set", DROPPED, "--inh-caps", DROPPED) if os.geteuid() == 0 else ()
bound_by_permissions = pytest.mark.skipif(bool(BOUND) and not shutil.which("setpriv"), reason="root without setpriv")


def doctor(*arguments, cwd, environ=None, stdin="", bound=False):
    plain = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "CONDA_PREFIX", "LANG", "LC_ALL")}
    return subprocess.run(
        [*(BOUND if bound else ()), DOCTOR, *arguments],
        cwd=cwd,
        env={**plain, "VIRTUAL_ENV": sys.prefix, "NPROC_PER_NODE": "2", **(environ or {})},
        capture_output=True,
        text=True,
        input=stdin,
        timeout=60,
        check=False,
    )


@pytest.fixture
def place(tmp_path):
    workspace.write_workspace(tmp_path)
    return tmp_path


def sentence(done):
    """The one line on stderr of a command that could not run."""
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr + done.stdout
    assert "an error of its own" not in done.stderr
    (line,) = done.stderr.strip().splitlines()
    return line


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


BAD_RECIPES = {
    "empty.yaml": (b"", "is empty"),
    "tab.yaml": (b"a: 1\nb:\n\tc: 2\n", "tab.yaml:3 is not valid YAML"),
    "list.yaml": (b"- a\n- b\n", "holds a list"),
    "text.yaml": (b"hello world\n", "holds plain text"),
    "open.yaml": (b"a: [1, 2\nb: 3\n", "is not valid YAML"),
    "model.safetensors": (b"\x00\x01\x02\x03" * 400, "binary file"),
}


@pytest.mark.parametrize("command", ["check", "fix", "train"])
@pytest.mark.parametrize("name", BAD_RECIPES)
def test_a_recipe_that_is_none(place, command, name):
    content, expected = BAD_RECIPES[name]
    (place / name).write_bytes(content)
    before = tree(place)
    assert expected in sentence(doctor(command, name, cwd=place))
    assert tree(place) == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["check", "missing.yaml"], "The recipe missing.yaml does not exist"),
        (["check", "examples"], "is a directory"),
        (["check", "--workdir", "nowhere"], "working directory"),
        (["check", "--python", "/nowhere/python"], "/nowhere/python does not exist"),
        (["check", "--env", "no-such-env"], "No conda environment or venv called no-such-env"),
        (["check", "--only", "ds-no-syc-zero"], "did you mean ds-no-sync-zero?"),
        (["check", "--from", "missing.json"], "cannot be read"),
        (["check", "--format", "xml"], "xml"),
        (["fix", "--only", "no-such-fix-at-all"], "There is no cause or fix called no-such-fix-at-all"),
        (["fix", "--undo", "nonsense"], "There is no journal nonsense"),
        (["explain", "nonsense"], "There is no cause called nonsense"),
        (["train", "a.yaml", "b.yaml"], "train takes one recipe"),
        (["rehearse", "a.yaml", "--", "b.yaml"], "rehearse takes one recipe"),
        (["rehearse", "--", "--cutoff_len", "512"], "rehearse does not know --cutoff_len"),
        (["diagnose", "missing.log"], "missing.log"),
    ],
)
def test_usage_that_cannot_work(place, arguments, expected):
    assert expected in sentence(doctor(*arguments, cwd=place))


def test_a_python_that_does_not_start(place):
    (place / "python").write_text("#!/bin/sh\necho no such interpreter >&2; exit 1\n")
    (place / "python").chmod(0o755)
    assert "does not start (no such interpreter)" in sentence(doctor("check", "--python", "./python", cwd=place))


def test_errors_are_a_whole_document_too(place):
    done = doctor("check", "missing.yaml", "--format", "json", cwd=place)
    document = json.loads(done.stdout)
    assert (done.returncode, document["healthy"], document["command"]) == (2, False, "check")
    assert "does not exist" in document["error"]


@bound_by_permissions
@pytest.mark.parametrize("command", ["check", "fix", "train", "estimate"])
def test_a_recipe_without_permission(place, command):
    recipe = place / "examples/train_full/qwen2_full_sft.yaml"
    recipe.chmod(0)
    assert "permission denied" in sentence(doctor(command, cwd=place, bound=True))


@bound_by_permissions
def test_fix_where_nothing_may_be_written(place):
    info = place / "data" / "dataset_info.json"
    before = tree(place)
    for closed in (info, info.parent):
        closed.chmod(0o555 if closed.is_dir() else 0o444)
        done = doctor("fix", "--offline", "--apply", "--yes", "--only", "repair-json", cwd=place, bound=True)
        assert "data/dataset_info.json may not be written by this user" in sentence(done)
        closed.chmod(0o755)
    assert tree(place) == before


@bound_by_permissions
def test_a_working_directory_without_permission(place):
    place.chmod(0)
    done = doctor("check", "--workdir", str(place), cwd=place.parent, bound=True)
    place.chmod(0o755)
    assert "permission denied" in sentence(done)


def test_the_next_command_is_told_what_this_one_was(place):
    recipe = place / "配 方.yaml"
    recipe.write_bytes((place / "examples/train_full/qwen2_full_sft.yaml").read_bytes())
    given = ("配 方.yaml", "--offline", "--python", sys.executable, "--workdir", str(place))
    shown = doctor("check", *given, cwd=place.parent).stdout.splitlines()[-1]
    assert shown.startswith("See the plan with: skyt1-doctor fix '配 方.yaml' --offline --python ")
    assert shown.endswith(f"--workdir {place}")
    given = (*given, "--only", "tmpl-unknown,repair-json", "--model", "my model")
    (place / "my model").mkdir()
    shown = doctor("fix", *given, cwd=place).stdout.splitlines()[-1]
    assert shown.endswith("--only tmpl-unknown,repair-json --model 'my model' --apply")
    given = ("--offline", "--workdir", place.name, "--only", "repair-json", "--apply", "--yes")
    shown = doctor("fix", *given, cwd=place.parent).stdout.splitlines()[-1]
    assert f" --workdir {place.name} --undo " in shown
    undo = shown.partition("skyt1-doctor ")[2].split()
    assert doctor(*undo, cwd=place.parent).stdout.startswith("taken back: ")


def test_spaces_and_chinese_characters_work(tmp_path):
    place = tmp_path / "我的 工作 区"
    workspace.write_workspace(place)
    recipe = place / "examples/train_full/qwen2_full_sft.yaml"
    recipe.rename(place / "配 方.yaml")
    done = doctor("check", "配 方.yaml", "--offline", "--format", "json", cwd=place)
    assert done.returncode == 1
    causes = {f["cause"]: f for f in json.loads(done.stdout)["findings"]}
    assert causes["data-info-invalid-json"]["evidence"][0]["where"].startswith("data/dataset_info.json:")


def test_check_in_both_languages(place):
    # Another free port and another amount of free disk are told each time.
    arguments = ("check", "--offline", "--skip", "launch,memory,machine")
    english, chinese = (doctor(*arguments, "--lang", lang, cwd=place).stdout for lang in ("en", "zh"))
    assert "dataset_info.json is not valid JSON" in english
    assert "修复" in chinese
    assert doctor(*arguments, cwd=place, environ={"LANG": "zh_CN.UTF-8"}).stdout == chinese


def test_the_contract_of_the_document(place):
    document = json.loads(doctor("check", "--offline", "--format", "json", cwd=place).stdout)
    assert document.keys() >= {
        "schema_version",
        "command",
        "version",
        "healthy",
        "findings",
        "probes",
        "unrecognised",
        "facts",
    }
    assert {probe["id"] for probe in document["probes"]} >= {"conda", "cli", "hub", "gpu", "deepspeed"}
    for finding in document["findings"]:
        assert finding["evidence"], finding["cause"]
        assert finding["severity"] in ("error", "warning", "info")
        assert {fix["class"] for fix in finding["fixes"]} <= {"safe", "review", "needs-argument", "manual"}
        assert 0 < finding["confidence"] <= 1


def test_captured_facts_give_the_same_findings_elsewhere(place, tmp_path_factory):
    facts = tmp_path_factory.mktemp("elsewhere") / "facts.json"
    here = doctor("check", "--offline", "--save-facts", str(facts), "--format", "json", cwd=place)
    there = doctor("check", "--from", str(facts), "--format", "json", cwd=facts.parent)
    assert json.loads(there.stdout)["findings"] == json.loads(here.stdout)["findings"]


def test_the_budget_holds_with_a_hub_that_never_answers(place):
    """It takes the connection and stays silent."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hub = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        done = doctor("check", "--budget", "1", cwd=place, environ={"HF_ENDPOINT": hub, "NO_PROXY": "*"})
        assert time.monotonic() - started < 6
    assert done.returncode == 1
    assert "did not answer" in done.stdout


@pytest.mark.parametrize("what", ["recipe", "python", "data", "model"])
def test_the_budget_holds_with_files_that_never_answer(tmp_path, what):
    """A FIFO without a writer stands for a file on a dead mount: opening it never returns."""
    recipe = tmp_path / "r.yaml"
    recipe.write_text("model_name_or_path: m\nstage: sft\ndo_train: true\ndataset: d\ntemplate: qwen\noutput_dir: o\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "m").mkdir()
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nsleep 60\n")
    slow.chmod(0o755)
    hung = {"recipe": recipe, "data": tmp_path / "data/dataset_info.json", "model": tmp_path / "m/config.json"}
    if what in hung:
        hung[what].unlink(missing_ok=True)
        os.mkfifo(hung[what])
    python = ("--python", str(slow)) if what == "python" else ()
    started = time.monotonic()
    done = doctor("check", "r.yaml", "--offline", "--budget", "1", *python, cwd=tmp_path)
    assert time.monotonic() - started < 6
    assert (done.returncode == 2) == (what in ("recipe", "python"))
    assert "did not answer within" in done.stdout + done.stderr


def test_what_is_safe_needs_no_consent(place):
    info = place / "data" / "dataset_info.json"
    recipe = (place / "examples/train_full/qwen2_full_sft.yaml").read_bytes()
    done = doctor("fix", "--offline", "--apply", "--only", "data-info-invalid-json", cwd=place)
    assert "verified      data-info-invalid-json  repair-json" in done.stdout
    assert "Sky-T1" in json.loads(info.read_text())
    assert (place / "examples/train_full/qwen2_full_sft.yaml").read_bytes() == recipe


def test_fix_json_alone_writes_nothing(place):
    before = tree(place)
    done = doctor("fix", "--format", "json", "--only", "data-info-invalid-json", cwd=place)
    document = json.loads(done.stdout)
    assert document["plan"][0]["actions"][0]["kind"] == "repair-json"
    assert document["outcomes"][0]["outcome"] == "planned"
    assert document["journal"] is None
    assert tree(place) == before


def test_fix_apply_verify_twice_and_undo(place):
    before = tree(place)
    arguments = ("fix", "--apply", "--yes", "--only", "data-info-invalid-json", "--format", "json")
    first = json.loads(doctor(*arguments, cwd=place).stdout)
    assert [o["outcome"] for o in first["outcomes"]] == ["verified"]
    json.loads((place / "data/dataset_info.json").read_text())
    second = json.loads(doctor(*arguments, cwd=place).stdout)
    assert {o["outcome"] for o in second["outcomes"]} == {"nothing to do"}
    assert second["journal"] is None
    assert doctor("fix", "--undo", "last", cwd=place).returncode == 0
    assert {name: data for name, data in tree(place).items() if ".skyt1-doctor" not in name} == before


def test_a_dataset_info_that_cannot_be_repaired_safely(place):
    broken = '{"Sky-T1": {"file_name": "a.json" "formatting": }, ]'
    (place / "data/dataset_info.json").write_text(broken)
    done = doctor("fix", "--apply", "--yes", "--only", "data-info-invalid-json", "--format", "json", cwd=place)
    outcomes = json.loads(done.stdout)["outcomes"]
    assert [o["outcome"] for o in outcomes] == ["refused"]
    assert "dataset_info.json" in outcomes[0]["reason"]
    assert (place / "data/dataset_info.json").read_text() == broken


def test_what_may_heal_a_run_is_said_from_its_log_alone(place, tmp_path):
    """Whether it applies only the target tells, and with it `diagnose` and `fix` do."""
    log = tmp_path / "the run.log"
    log.write_text(
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 37.09 GiB. GPU 0 has a total capacity of 79 GiB"
    )
    said = doctor("diagnose", str(log), cwd=place).stdout
    perhaps = [line for line in said.splitlines() if line.startswith("    perhaps")]
    assert "Turn gradient checkpointing on" in perhaps[0]
    assert not [line for line in perhaps if "…" in line]
    assert said.rstrip().endswith(f"skyt1-doctor fix RECIPE --from-log '{log}'")
    with_target = json.loads(doctor("diagnose", str(log), "--workdir", ".", "--format", "json", cwd=place).stdout)
    assert [finding["may_apply"] for finding in with_target["findings"]] == [[]]


def test_diagnose_from_standard_input_and_its_exit_codes(place):
    assertion = (
        "AssertionError: no_sync context manager is incompatible with gradient partitioning logic of ZeRO stage 3\n"
    )
    known = doctor(
        "diagnose", "-", "--format", "json", cwd=place, stdin=f"Traceback (most recent call last):\n{assertion}"
    )
    assert known.returncode == 1
    assert json.loads(known.stdout)["findings"][0]["cause"] == "ds-no-sync-zero"
    odd = 'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\nFrobnicationError: upside down\n'
    unknown = doctor("diagnose", "--format", "json", cwd=place, stdin=odd)
    assert unknown.returncode == 5
    assert json.loads(unknown.stdout)["unrecognised"]["exception"] == "FrobnicationError"
    assert doctor("diagnose", cwd=place, stdin="all went well\n").returncode == 0


@pytest.fixture
def planted(place):
    """Made-up tokens wherever users leave them."""
    recipe = place / "examples/train_full/qwen2_full_sft.yaml"
    recipe.write_text(recipe.read_text() + f"hf_hub_token: {TOKEN}\n")
    (place / ".deepspeed_env").write_text(f"HF_TOKEN={TOKEN}\nWANDB_API_KEY={WANDB_KEY}\n")
    (place / "train.log").write_text(f"export WANDB_API_KEY={WANDB_KEY}\nValueError: token {TOKEN} is not valid\n")
    return place


ONLY_FILES = ["--only", "data-info-invalid-json,report-to-none,sec-token-in-file"]  # never the tests' own packages
ENVIRON = {"HF_TOKEN": TOKEN, "WANDB_API_KEY": WANDB_KEY, "HTTPS_PROXY": f"http://user:{TOKEN}@127.0.0.1:1"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["check"],
        ["check", "--format", "json"],
        ["check", "--save-facts", "facts.json"],
        ["fix", *ONLY_FILES],
        ["fix", *ONLY_FILES, "--save-plan", "plan.json"],
        ["fix", *ONLY_FILES, "--apply", "--yes", "--format", "json"],
        ["diagnose", "train.log"],
        ["diagnose", "train.log", "--format", "json"],
        ["train"],
    ],
)
def test_planted_tokens_appear_nowhere(planted, arguments):
    given = set(tree(planted))
    done = doctor(*arguments, cwd=planted, environ=ENVIRON)
    written = b"".join(data for name, data in tree(planted).items() if name not in given and "/backup" not in name)
    shown = done.stdout + done.stderr + written.decode(errors="replace")
    assert TOKEN not in shown
    assert WANDB_KEY not in shown


def test_planted_tokens_are_reported_with_file_and_line(planted):
    findings = json.loads(doctor("check", "--offline", "--format", "json", cwd=planted).stdout)["findings"]
    places = {e["where"] for f in findings if f["cause"] == "sec-token-in-file" for e in f["evidence"]}
    recipe = "examples/train_full/qwen2_full_sft.yaml"
    lines = len((planted / recipe).read_text().splitlines())
    assert places >= {f"{recipe}:{lines}", ".deepspeed_env:1", ".deepspeed_env:2", "train.log:2"}


@pytest.mark.parametrize("command", [[], ["check"], ["fix"], ["train"], ["diagnose"], ["explain"], ["causes"]])
def test_help_imports_nothing_heavy(command):
    code = "import sys; from doctor import cli; cli.run(sys.argv[1:]); "
    code += "heavy = {'rich', 'yaml', 'httpx', 'torch'} & set(sys.modules); sys.exit(str(heavy) if heavy else 0)"
    argv = [sys.executable, "-c", code, *command, "--help"]
    assert subprocess.run(argv, capture_output=True, text=True, check=False).stderr == ""


@pytest.mark.parametrize(
    ("content", "cause", "where"),
    [
        (b"a: 1\nb:\n\tc: 2\n", "cfg-yaml-syntax", "broken.yaml:3"),
        ("# 全量\na: 1\n".encode("gbk"), "data-encoding", "broken.yaml:1"),
        (b"- a\n- b\n", "cfg-yaml-syntax", "broken.yaml"),
    ],
)
def test_a_recipe_that_cannot_be_read_is_a_finding_of_the_document(place, content, cause, where):
    (place / "broken.yaml").write_bytes(content)
    done = doctor("check", "broken.yaml", "--format", "json", cwd=place)
    document = json.loads(done.stdout)
    assert (done.returncode, document["findings"][0]["cause"]) == (2, cause)
    assert document["findings"][0]["evidence"][0]["where"] == where
