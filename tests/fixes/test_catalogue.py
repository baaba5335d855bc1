"""Every fix of the knowledge base: its kind exists, takes these arguments, and its class tells the truth."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import doctor
from doctor import details
from fixes import actions
from knowledge_base import load
from knowledge_base.offers import ARGUMENTS as SAID
from knowledge_base.offers import PLACEHOLDER, placeholders
from knowledge_base.schema import Action, Cause, Fix, FixClass

ARGUMENTS = {
    "install": {"packages"},
    "uninstall": {"packages"},
    "set-recipe": {"values"},
    "unset-recipe": {"keys"},
    "rename-recipe-key": {"old", "new"},
    "rename-recipe": {"to"},
    "set-json": {"file", "values"},
    "repair-json": {"file"},
    "set-dataset": {"file", "name", "values"},
    "set-launch": {"values"},
    "unset-launch": {"names"},
    "move-aside": {"path"},
    "convert-encoding": {"file", "encoding"},
    "download-model": {"repo", "to"},
    "instruct": {"commands"},
}
OPTIONAL = {"install": {"reinstall"}, "set-json": {"remove"}}
# Settings of the recipe that decide what is learnt: a fix that gives one a value of ours changes the result.
RESULTS = {
    "per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs", "max_steps", "max_samples",
    "cutoff_len", "stage", "finetuning_type", "bf16", "fp16", "pure_bf16", "optim", "lr_scheduler_type", "warmup_ratio",
    "warmup_steps", "weight_decay", "seed", "packing", "neat_packing", "train_on_prompt", "lora_rank", "lora_alpha",
    "learning_rate", "max_grad_norm", "template", "dataset", "val_size", "streaming", "disable_shuffling", "mask_history",
    "resize_vocab", "train_from_scratch", "label_smoothing_factor", "quantization_bit", "use_dora", "pissa_init",
    "lora_target", "lora_dropout", "freeze_trainable_layers", "rope_scaling", "neftune_noise_alpha",
}  # fmt: skip


def fixes() -> Iterator[tuple[Cause, Fix]]:
    for cause in load.all_causes():
        for fix in cause.fixes:
            yield cause, fix


def every_action() -> list[tuple[str, Fix, Action]]:
    return [(f"{cause.id}/{fix.id}", fix, action) for cause, fix in fixes() for action in fix.action_list()]


def test_every_action_has_the_arguments_of_its_kind() -> None:
    wrong = []
    for name, _, action in every_action():
        actions.load(action.kind)
        given = set(action.args)
        if not ARGUMENTS[action.kind] <= given <= ARGUMENTS[action.kind] | OPTIONAL.get(action.kind, set()):
            wrong.append(f"{name}: {action.kind} {sorted(given)}")
    assert wrong == []


def written_requirements(action: Action) -> list[str]:
    """The requirements of a package action that hold no placeholder."""
    listed = action.args["packages"] if action.kind in ("install", "uninstall") else []
    return [text for text in ([listed] if isinstance(listed, str) else listed) if not PLACEHOLDER.search(text)]


def test_every_requirement_can_be_read() -> None:
    for name, _, action in every_action():
        assert all(Requirement(text).name for text in written_requirements(action)), name


def test_fix_ids_are_unique_within_a_cause() -> None:
    for cause in load.all_causes():
        ids = [fix.id for fix in cause.fixes]
        assert len(ids) == len(set(ids)), cause.id


def test_nothing_safe_changes_what_is_learnt() -> None:
    wrong = [
        f"{name} sets {key}"
        for name, fix, action in every_action()
        if fix.class_ is FixClass.SAFE and action.kind == "set-recipe"
        for key, value in action.args["values"].items()
        if key in RESULTS and not (isinstance(value, str) and PLACEHOLDER.fullmatch(value))
    ]
    assert wrong == []


def test_nothing_safe_changes_how_many_ranks_there_are() -> None:
    """The global batch is a multiple of them. Stale RANK and WORLD_SIZE of a shell are no choice of the user's."""
    counts = {"CUDA_VISIBLE_DEVICES", "NPROC_PER_NODE", "NNODES"}
    wrong = [
        f"{name}: {sorted(found)}"
        for name, fix, action in every_action()
        if fix.class_ is FixClass.SAFE and action.kind in ("set-launch", "unset-launch")
        if (found := counts & {*action.args.get("values", {}), *action.args.get("names", ())})
    ]
    assert wrong == []


def test_nothing_safe_changes_the_optimizer_or_the_batch_of_deepspeed() -> None:
    """The recipe decides them: a safe fix may leave them to it ("auto") and nothing else."""
    decided = re.compile(
        r"optimizer\b|scheduler\b|gradient_clipping|.*batch_size|gradient_accumulation_steps|fp16|bf16"
    )
    wrong = [
        f"{name} sets {key}"
        for name, fix, action in every_action()
        if fix.class_ is FixClass.SAFE and action.kind == "set-json" and isinstance(action.args["values"], dict)
        for key, value in action.args["values"].items()
        if decided.match(key) and value != "auto"
    ]
    assert wrong == []


def test_nothing_safe_names_torch() -> None:
    """The plan asks for consent for the whole family anyhow; the class should say so for torch itself."""
    wrong = [
        f"{name} installs {text}"
        for name, fix, action in every_action()
        if fix.class_ is FixClass.SAFE
        for text in written_requirements(action)
        if Requirement(text).name in ("torch", "torchvision", "torchaudio")
    ]
    assert wrong == []


@pytest.mark.parametrize("class_", [FixClass.SAFE, FixClass.REVIEW, FixClass.NEEDS_ARGUMENT])
def test_what_can_be_applied_changes_something(class_: FixClass) -> None:
    """A fix that only instructs is manual: none may claim to be applied when nothing was changed."""
    wrong = [
        f"{cause.id}/{fix.id}"
        for cause, fix in fixes()
        if fix.class_ is class_ and all(action.kind == "instruct" for action in fix.action_list())
    ]
    assert wrong == []


@cache
def words_of_the_doctor() -> list[set[str]]:
    """For every module but the details': the texts and keyword names in it; a piece of a joined text counts as `*piece`."""
    found = []
    for path in Path(doctor.__file__).parent.rglob("*.py"):
        if "details" not in path.parts:
            nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
            texts = {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
            found.append(texts | {n.arg for n in nodes if isinstance(n, ast.keyword) and n.arg})
    return found


def test_somebody_supplies_what_a_fix_asks_for() -> None:
    """A fix whose detail nobody publishes would never be offered: a judgement that names the cause, a group of the
    cause's signatures, or the facts (doctor.details)."""
    wrong = []
    for cause in load.all_causes():
        told = set(details.known()) | set(SAID)
        for words in words_of_the_doctor():
            told |= words if cause.id in words else set()
        for signature in cause.signatures:
            told |= set(re.findall(r"\?P<(\w+)>", signature.pattern))
        for fix in cause.fixes:
            asked = {*fix.when, *fix.unless, *placeholders(fix.actions)} if fix.class_ is not FixClass.MANUAL else set()
            wrong += [
                f"{cause.id}/{fix.id} asks for {n}" for n in asked - told if f"_{n.rpartition('_')[2]}" not in told
            ]
    assert wrong == []
