"""`train --slurm`: what is written, what is only shown, what is refused. sbatch is a program that keeps its arguments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from doctor import cli


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    work = tmp_path / "work"
    work.mkdir()
    (work / "recipe.yaml").write_text("stage: sft\noutput_dir: saves\nmodel_name_or_path: /models/none\n")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sbatch").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\necho 77\n')
    (programs / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("NPROC_PER_NODE", "8")
    monkeypatch.delenv("NNODES", raising=False)
    monkeypatch.chdir(work)
    return work


def train(*words: str) -> int:
    return int(cli.run(["train", "recipe.yaml", "--slurm", "--python", sys.executable, "--force", *words]))


def test_print_shows_the_script_and_writes_nothing(workdir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert train("--print", "--slurm-options", "-N 3 --gpus-per-node=8") == 0
    script = capfd.readouterr().out
    assert script.startswith("#!/bin/bash\n")
    assert "#SBATCH -N 3\n#SBATCH --gpus-per-node=8\n" in script
    assert "export NPROC_PER_NODE=8\n" in script
    assert not (workdir / ".skyt1-doctor").exists()


def test_print_shows_the_script_though_findings_would_stop_the_run(
    workdir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["recipe.yaml", "--slurm", "--python", sys.executable]
    assert cli.run(["train", *words, "--print"]) == 0
    told = capfd.readouterr()
    assert '"$DOCTOR" check recipe.yaml' in told.out
    assert "model-path-not-found" in told.err
    assert cli.run(["train", *words]) == 4
    assert not (workdir / ".skyt1-doctor").exists()


@pytest.mark.parametrize("words", [["--print"], ["--workers", "2"], ["--slurm", "--workers", "2"]])
def test_an_option_of_the_cluster_alone_starts_nothing_here(
    workdir: Path, capfd: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert cli.run(["train", "recipe.yaml", *words]) == 2
    assert "belongs to" in capfd.readouterr().err
    assert not (workdir / ".skyt1-doctor").exists()


def test_submitting_writes_all_that_the_nodes_need(workdir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert train("--slurm-options", "-N 2", "--", "max_steps=9") == 0
    assert capfd.readouterr().out.strip() == "77"
    (folder,) = (workdir / ".skyt1-doctor" / "runs").iterdir()
    assert (workdir.parent / "asked").read_text() == f"--parsable {folder}/job.sh\n"
    assert "max_steps: 9" in (folder / "recipe.yaml").read_text()
    assert json.loads((folder / "job.json").read_text())["nproc"] == 8
    subprocess.run([sys.executable, "-m", "py_compile", str(folder / "entry.py")], check=True)
    port = subprocess.run(
        [sys.executable, "-I", str(folder / "doctor.pyz"), "port", "5"], capture_output=True, text=True, check=True
    )
    assert 20000 <= int(port.stdout) < 32000


def test_the_number_of_nodes_is_that_of_the_launch(
    workdir: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NNODES", "4")
    train("--print")
    assert "#SBATCH --nodes 4\n" in capfd.readouterr().out


def test_a_recipe_with_a_secret_is_not_copied(workdir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    token = "hf_" + "abcdefghijklmnopqrstuvwxyzABCDEFGH"
    (workdir / "recipe.yaml").write_text(f"stage: sft\nhf_hub_token: {token}\n")
    assert train() == 2
    told = capfd.readouterr()
    assert "holds a secret" in told.err
    assert token not in told.err + told.out
    assert all(
        token not in p.read_text(errors="replace") for p in (workdir / ".skyt1-doctor").rglob("*") if p.is_file()
    )


def test_what_sbatch_says_is_told(workdir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (workdir.parent / "bin" / "sbatch").write_text("#!/bin/sh\necho 'invalid partition specified' >&2\nexit 1\n")
    assert train() == 2
    assert "invalid partition specified" in capfd.readouterr().err


def test_options_that_cannot_be_read_are_one_sentence(workdir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert train("--print", "--slurm-options", "-N '3") == 2
    assert "cannot be read" in capfd.readouterr().err
