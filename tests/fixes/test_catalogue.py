"""Every fix of the knowledge base: its kind exists, takes these arguments, and its class tells the truth."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement

from fixes import actions
from knowledge_base import load
from knowledge_base.offers import PLACEHOLDER
from knowledge_base.schema import Action, Cause, Fix, FixClass

ARGUMENTS = {
    "install": {"packages"},
    "uninstall": {"packages"},
    "set-recipe": {"values"},
    "unset-recipe": {"keys"},
    "rename-recipe-key": {"old", "new"},
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
OPTIONAL = {"install": {"reinstall"}}
# Settings of the recipe that decide what is learnt: a fix that gives one a value of ours changes the result.
RESULTS = {
    "per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs", "max_steps", "max_samples",
    "cutoff_len", "stage", "finetuning_type", "bf16", "fp16", "pure_bf16", "optim", "lr_scheduler_type", "warmup_ratio",
    "warmup_steps", "weight_decay", "seed", "packing", "neat_packing", "train_on_prompt", "lora_rank", "lora_alpha",
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
