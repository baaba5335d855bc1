"""Follows the argument checks of the installed release over a recipe's values, and says what it would refuse.

A small interpreter of packed syntax trees (`argument_source.pack`). Only a condition that is certainly true counts; what a
branch that may or may not run assigns is unknown from there on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from doctor.recipe.argument_source import Class, Field, Node, Source
from doctor.recipe.expressions import DEEPEST, UNKNOWN, Arguments, Expressions, Fault, truth


class Refusal(msgspec.Struct, frozen=True):
    """`message` of the error that would be raised, where it stands, and the recipe keys that its condition looks at."""

    error: str
    message: str
    file: str
    line: int
    keys: list[str]


class Requirement(msgspec.Struct, frozen=True):
    """A package that the recipe's own settings make necessary, as the release asks for it (`liger-kernel`)."""

    requirement: str
    keys: list[str]


class Verdict(msgspec.Struct, frozen=True):
    """What following the checks found. `values`: arguments after the checks have filled and converted them."""

    refusals: list[Refusal]
    requirements: list[Requirement]


class _Leave(Exception):
    """Flow left a function (return)."""


def follow(
    source: Source, given: Mapping[str, Any], command: str, environment: Mapping[str, Any], functions: Mapping[str, Any]
) -> Verdict:
    """Build the dataclasses of `command` (train, infer, eval) from `given`, then follow `get_<command>_args`.

    `environment`: attributes that no dataclass holds (`parallel_mode`) and names of the module. `functions`: results of
    calls by their dotted name, a value or a callable of the evaluated arguments.
    """
    run = _Run(source, given, environment, functions)
    instances = [run.build(source.classes[name]) for name in source.groups.get(command, [])]
    entry = source.functions.get(f"get_{command}_args")
    if entry is not None and instances:
        run.enter(entry, instances)
    return Verdict(run.refusals, run.requirements)


class _Run(Expressions):
    def __init__(
        self, source: Source, given: Mapping[str, Any], environment: Mapping[str, Any], functions: Mapping[str, Any]
    ) -> None:
        self.source, self.given, self.environment, self.functions = source, given, environment, functions
        self.refusals: list[Refusal] = []
        self.requirements: list[Requirement] = []
        self.file = ""
        self.conditions: list[set[str]] = []  # recipe keys that the conditions around the statement look at
        self.depth = 0
        self.instances = []

    # -- dataclasses ------------------------------------------------------------------------------------------------
    def build(self, cls: Class) -> Arguments:
        values = {name: self.initial(field) for name, field in cls.fields.items()}
        made = Arguments(cls.name, values)
        self.post_init(cls, made)
        return made

    def initial(self, field: Field) -> Any:
        if field.name in self.given:
            return self.given[field.name]
        if field.default is None:
            return UNKNOWN
        value = self.quiet(field.default, {})
        return value

    def post_init(self, cls: Class, made: Arguments, method: str = "__post_init__") -> None:
        owner: Class | None = cls
        while owner is not None and method not in owner.methods:
            owner = self.source.classes.get(owner.bases[0]) if owner.bases else None
        if owner is None:
            return
        before, self.file = self.file, owner.file
        self.call_body(owner.methods[method], {"self": made, "__class__": owner})
        self.file = before

    def enter(self, function: Node, instances: list[Arguments]) -> None:
        """Run get_train_args with the call that parses the arguments replaced by the instances."""
        self.file = next((f for f in self.source.files if f.endswith("parser.py")), "")
        self.instances = instances
        self.call_body(function, {})

    def call_body(self, function: Node, scope: dict[str, Any]) -> Any:
        if self.depth > DEEPEST:
            return UNKNOWN
        self.depth += 1
        try:
            self.block(function["body"], scope)
        except _Leave:
            pass
        finally:
            self.depth -= 1
        return UNKNOWN

    # -- statements -------------------------------------------------------------------------------------------------
    def block(self, statements: list[Node], scope: dict[str, Any]) -> None:
        for statement in statements:
            handler = getattr(self, f"do_{statement['_']}", None)
            if handler is None:
                self.forget(statement, scope)
                continue
            try:
                handler(statement, scope)
            except Fault as fault:
                self.refuse("TypeError" if "supported" in str(fault) else "ValueError", str(fault), statement, scope)
                self.forget(statement, scope)

    def do_If(self, node: Node, scope: dict[str, Any]) -> None:
        self.conditions.append(self.keys_in(node["test"], scope))
        try:
            test = truth(self.evaluate(node["test"], scope))
            if test is UNKNOWN:
                self.forget(node, scope)
            else:
                self.block(node["body"] if test else node["orelse"], scope)
        finally:
            self.conditions.pop()

    def do_Raise(self, node: Node, scope: dict[str, Any]) -> None:
        call = node.get("exc") or {}
        message = UNKNOWN
        if call.get("_") == "Call" and call["args"]:
            message = self.quiet(call["args"][0], scope)
        name = self.dotted(call.get("func") if call.get("_") == "Call" else call) or "error"
        self.refuse(name, message if isinstance(message, str) else "refused", node, scope)

    def do_Assert(self, node: Node, scope: dict[str, Any]) -> None:
        if truth(self.evaluate(node["test"], scope)) is False:
            message = self.quiet(node["msg"], scope) if node.get("msg") else "assertion"
            self.conditions.append(self.keys_in(node["test"], scope))
            self.refuse("AssertionError", str(message), node, scope)
            self.conditions.pop()

    def do_Return(self, node: Node, scope: dict[str, Any]) -> None:
        raise _Leave

    def do_Pass(self, node: Node, scope: dict[str, Any]) -> None:
        return

    def do_FunctionDef(self, node: Node, scope: dict[str, Any]) -> None:
        scope[node["name"]] = node

    def do_Expr(self, node: Node, scope: dict[str, Any]) -> None:
        self.evaluate(node["value"], scope)

    def do_Assign(self, node: Node, scope: dict[str, Any]) -> None:
        value = self.evaluate(node["value"], scope)
        for target in node["targets"]:
            self.assign(target, value, scope)

    def do_AnnAssign(self, node: Node, scope: dict[str, Any]) -> None:
        if node.get("value"):
            self.assign(node["target"], self.evaluate(node["value"], scope), scope)

    def assign(self, target: Node, value: Any, scope: dict[str, Any]) -> None:
        if target["_"] == "Name":
            scope[target["id"]] = value
        elif target["_"] == "Attribute":
            owner = self.quiet(target["value"], scope)
            if isinstance(owner, Arguments):
                owner.values[target["attr"]] = value
        elif target["_"] in ("Tuple", "List"):
            count = len(target["elts"])
            if value is self.instances and len(value) > count:  # what is parsed last, the parsing function keeps
                value = value[:count]
            parts = value if isinstance(value, (list, tuple)) and len(value) == count else None
            for place, inner in enumerate(target["elts"]):
                self.assign(inner, parts[place] if parts is not None else UNKNOWN, scope)

    def forget(self, node: Any, scope: dict[str, Any]) -> None:
        """What a statement might assign is unknown from here on."""
        if isinstance(node, list):
            for item in node:
                self.forget(item, scope)
        elif isinstance(node, dict):
            if node.get("_") in ("Assign", "AnnAssign", "AugAssign"):
                for target in node.get("targets") or [node["target"]]:
                    self.assign(target, UNKNOWN, scope)
            for value in node.values():
                if isinstance(value, (dict, list)):
                    self.forget(value, scope)

    def refuse(self, error: str, message: str, node: Node, scope: dict[str, Any]) -> None:
        keys = {key for condition in self.conditions for key in condition}
        keys |= self.keys_in(node, scope) if node["_"] != "Raise" else set()
        found = Refusal(error, " ".join(message.split())[:400], self.file, node.get("line", 0), sorted(keys))
        if found not in self.refusals:
            self.refusals.append(found)

    def keys_in(self, node: Any, scope: dict[str, Any]) -> set[str]:
        """Arguments that an expression reads."""
        if isinstance(node, list):
            return {key for item in node for key in self.keys_in(item, scope)}
        if not isinstance(node, dict):
            return set()
        if node.get("_") == "Attribute" and isinstance(self.quiet(node["value"], scope), Arguments):
            return {node["attr"]}
        return {key for value in node.values() for key in self.keys_in(value, scope)}

    def require(self, node: Node, scope: dict[str, Any]) -> None:
        wanted = self.quiet(node["args"][0], scope) if node["args"] else UNKNOWN
        firm = self.dotted(node["func"]) == "require_version" or any(k["arg"] == "mandatory" for k in node["keywords"])
        keys = sorted({key for condition in self.conditions for key in condition})
        if isinstance(wanted, str) and firm and keys:
            self.requirements.append(Requirement(wanted, keys))

    def call_method(self, node: Node, name: str, scope: dict[str, Any]) -> Any:
        made, owner = scope.get("self"), scope.get("__class__")
        if isinstance(made, Arguments) and isinstance(owner, Class):
            if name.startswith("self."):
                self.post_init(owner, made, name.removeprefix("self."))
            elif name.startswith("super") and owner.bases:
                self.post_init(self.source.classes[owner.bases[0]], made)
            else:  # Base.__post_init__(self); a name that is no class here is an alias, used for the last base
                named = name.partition(".")[0]
                base = named if named in self.source.classes else owner.bases[-1] if owner.bases else None
                if base is not None:
                    self.post_init(self.source.classes[base], made)
        return UNKNOWN
