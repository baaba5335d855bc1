"""The optimizer of a DeepSpeed JSON that torch makes: what its class takes, read from torch/optim of the target."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from doctor import syntax
from doctor.facts import Facts
from doctor.findings import Finding, found

# DeepSpeed's names that it hands to a class of torch, which has another name or file.
_OF_TORCH = {"adagrad": "Adagrad"}
_MUP = ("muadam", "muadamw", "musgd")  # classes of the package mup


def taken(named: Any, torch: Path | None) -> list[str] | None:
    """Parameters of the class that `optimizer` of the JSON names; None where torch has no such class, or it is Adam's,
    for which DeepSpeed has its own."""
    kind = named.get("type") if isinstance(named, Mapping) else None
    if not isinstance(kind, str) or torch is None or kind.lower() in ("adam", "adamw"):
        return None
    kind = _OF_TORCH.get(kind.lower(), kind)
    if not re.fullmatch(r"[A-Z]\w{1,30}", kind):
        return None
    for stem in (kind.lower(), f"_{kind.lower()}", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind).lower()):
        try:
            tree = syntax.tree((torch / "optim" / f"{stem}.py").read_text(encoding="utf-8"))
        except (OSError, SyntaxError, ValueError):
            continue
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name == kind:
                return _parameters(node)
    return None


def _parameters(node: ast.ClassDef) -> list[str] | None:
    made = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if made is None or made.args.kwarg is not None:
        return None
    return [arg.arg for arg in (*made.args.args, *made.args.kwonlyargs) if arg.arg not in ("self", "params")]


def _said(facts: Facts, what: str) -> Finding:
    path = facts["deepspeed.config_path"]
    return found("deepspeed", "ds-config-invalid", what, path, None, file=path, ds_config=path)


def fits(facts: Facts) -> Iterator[Finding]:
    config: Mapping[str, Any] = facts["deepspeed.config"] or {}
    optimizer = config.get("optimizer")
    kind = optimizer.get("type") if isinstance(optimizer, Mapping) else None
    if not isinstance(optimizer, Mapping) or not isinstance(kind, str):
        return
    given = optimizer.get("params")
    params: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    if "max_grad_norm" in params:
        yield _said(facts, "optimizer.params.max_grad_norm is refused by DeepSpeed; gradient_clipping is its place")
        params = {name: value for name, value in params.items() if name != "max_grad_norm"}
    known = facts.get("deepspeed.optimizer_takes")
    foreign = [name for name in params if known is not None and name not in known]
    if foreign:
        yield _said(
            facts, f"optimizer.params.{foreign[0]} is not taken by {kind}, which takes {', '.join(known or ())}"
        )
    if kind == "LBFGS":
        yield _said(facts, "optimizer.type LBFGS asks each step for a closure, which the trainer does not give")
    if kind == "SGD" and params.get("nesterov") is True and not params.get("momentum"):
        yield _said(facts, "optimizer.params.nesterov of SGD needs a momentum above 0")
    if kind.lower() in _MUP and "mup" not in facts["packages.versions"]:
        what = f"optimizer.type {kind} is of the package mup, which is not installed"
        yield found("deepspeed", "pkg-missing", what, facts["deepspeed.config_path"], module="mup", distribution="mup")
    decay = facts["recipe.values"].get("weight_decay")
    refused = kind.lower() not in ("lamb", "lion", "muon") and params.get("weight_decay") in ("auto", decay)
    if refused and isinstance(decay, (int, float)) and decay < 0:
        what = f"weight_decay: {json.dumps(decay)}, which the optimizer of the DeepSpeed JSON refuses; at least 0 is needed"
        yield found("deepspeed", "cfg-bad-value-type", what, facts["deepspeed.config_path"], key="weight_decay")


def lamb_scales(facts: Facts) -> Iterator[Finding]:
    """Lamb asserts on a loss scale that changes: in bf16 older releases have none, and a fixed one is none."""
    config: Mapping[str, Any] = facts["deepspeed.config"] or {}
    optimizer = config.get("optimizer")
    kind = optimizer.get("type") if isinstance(optimizer, Mapping) else None
    if str(kind).lower() not in ("lamb", "onebitlamb"):
        return
    half = config.get("fp16")
    scale = half.get("loss_scale", 0) if isinstance(half, Mapping) else 0
    precise = facts["recipe.values"].get("bf16") is True and facts.get("deepspeed.bf16_scales") is False
    if precise or (isinstance(scale, (int, float)) and scale != 0 and facts["recipe.values"].get("fp16") is True):
        why = "bf16 has none" if precise else f"fp16.loss_scale is {json.dumps(scale)}"
        yield _said(facts, f"optimizer.type {kind} needs dynamic loss scaling, and {why}")


ALL = (fits, lamb_scales)
