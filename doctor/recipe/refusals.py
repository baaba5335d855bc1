"""Follows the argument checks of the installed release over a recipe's values, and says what it would refuse.

A small interpreter of packed syntax trees (`argument_source.pack`) with three-valued logic: what depends on the
machine, on calls or on anything not understood is UNKNOWN, and only a condition that is certainly true counts. It runs
no code: it knows comparisons, boolean logic, plain arithmetic, a few methods of text, and enumerations.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from doctor.recipe.argument_source import Class, Field, Node, Source

DEEPEST = 60  # nested calls and expressions


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = _Unknown()


class Member(str):
    """A member of an enumeration of strings, as transformers has them: equal to its text, but not a plain string."""

    enum = ""


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


class _Fault(Exception):
    """An error that evaluating the release's own expression would raise on these values (TypeError, ValueError)."""


class _Leave(Exception):
    """Flow left a function (return)."""


class _Arguments:
    """One dataclass instance: attribute -> value or UNKNOWN."""

    def __init__(self, name: str, values: dict[str, Any]) -> None:
        self.name, self.values = name, values


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


class _Run:
    def __init__(
        self, source: Source, given: Mapping[str, Any], environment: Mapping[str, Any], functions: Mapping[str, Any]
    ) -> None:
        self.source, self.given, self.environment, self.functions = source, given, environment, functions
        self.refusals: list[Refusal] = []
        self.requirements: list[Requirement] = []
        self.file = ""
        self.conditions: list[set[str]] = []  # recipe keys that the conditions around the statement look at
        self.depth = 0

    # -- dataclasses ------------------------------------------------------------------------------------------------
    def build(self, cls: Class) -> _Arguments:
        values = {name: self.initial(field) for name, field in cls.fields.items()}
        made = _Arguments(cls.name, values)
        self.post_init(cls, made)
        return made

    def initial(self, field: Field) -> Any:
        if field.name in self.given:
            return self.given[field.name]
        if field.default is None:
            return UNKNOWN
        value = self.quiet(field.default, {})
        return value

    def post_init(self, cls: Class, made: _Arguments, method: str = "__post_init__") -> None:
        owner: Class | None = cls
        while owner is not None and method not in owner.methods:
            owner = self.source.classes.get(owner.bases[0]) if owner.bases else None
        if owner is None:
            return
        before, self.file = self.file, owner.file
        self.call_body(owner.methods[method], {"self": made, "__class__": owner})
        self.file = before

    def enter(self, function: Node, instances: list[_Arguments]) -> None:
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
            except _Fault as fault:
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
            if isinstance(owner, _Arguments):
                owner.values[target["attr"]] = value
        elif target["_"] in ("Tuple", "List"):
            parts = value if isinstance(value, (list, tuple)) and len(value) == len(target["elts"]) else None
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
        if node.get("_") == "Attribute" and isinstance(self.quiet(node["value"], scope), _Arguments):
            return {node["attr"]}
        return {key for value in node.values() for key in self.keys_in(value, scope)}

    # -- expressions ------------------------------------------------------------------------------------------------
    def quiet(self, node: Node | None, scope: dict[str, Any]) -> Any:
        """The value of an expression, UNKNOWN where evaluating it would fail."""
        try:
            return self.evaluate(node, scope) if node else UNKNOWN
        except _Fault:
            return UNKNOWN

    def evaluate(self, node: Node, scope: dict[str, Any]) -> Any:
        handler = getattr(self, f"eval_{node['_']}", None)
        if handler is None or self.depth > DEEPEST:
            return UNKNOWN
        self.depth += 1
        try:
            return handler(node, scope)
        finally:
            self.depth -= 1

    def eval_Constant(self, node: Node, scope: dict[str, Any]) -> Any:
        return node["value"]

    def eval_Name(self, node: Node, scope: dict[str, Any]) -> Any:
        name = node["id"]
        return scope.get(name, self.environment.get(name, UNKNOWN))

    def eval_Attribute(self, node: Node, scope: dict[str, Any]) -> Any:
        inner = node["value"]
        if inner["_"] == "Name" and inner["id"] in self.source.enums and inner["id"] not in scope:
            return member(inner["id"], self.source.enums[inner["id"]].get(node["attr"], UNKNOWN))
        owner = self.evaluate(inner, scope)
        if isinstance(owner, _Arguments):
            return owner.values.get(node["attr"], self.environment.get(node["attr"], UNKNOWN))
        if node["attr"] == "value" and isinstance(owner, str):
            return owner
        return self.environment.get(self.dotted(node) or "", UNKNOWN)

    def eval_List(self, node: Node, scope: dict[str, Any]) -> Any:
        items = [self.evaluate(item, scope) for item in node["elts"]]
        return UNKNOWN if any(item is UNKNOWN for item in items) else items

    eval_Tuple = eval_Set = eval_List

    def eval_JoinedStr(self, node: Node, scope: dict[str, Any]) -> Any:
        parts = []
        for part in node["values"]:
            value = self.quiet(part["value"], scope) if part["_"] == "FormattedValue" else part["value"]
            parts.append("…" if value is UNKNOWN else str(value))
        return "".join(parts)

    def eval_BoolOp(self, node: Node, scope: dict[str, Any]) -> Any:
        stops = node["op"]["_"] == "Or"
        unknown = False
        value: Any = UNKNOWN
        for part in node["values"]:
            value = self.quiet(part, scope) if unknown else self.evaluate(part, scope)
            known = truth(value)
            if known is UNKNOWN:
                unknown = True
            elif known is stops:
                return True if unknown and stops else False if unknown else value
        return UNKNOWN if unknown else value

    def eval_UnaryOp(self, node: Node, scope: dict[str, Any]) -> Any:
        value = self.evaluate(node["operand"], scope)
        kind = node["op"]["_"]
        if kind == "Not":
            known = truth(value)
            return UNKNOWN if known is UNKNOWN else not known
        if kind == "USub" and isinstance(value, (int, float)):
            return -value
        return UNKNOWN

    def eval_IfExp(self, node: Node, scope: dict[str, Any]) -> Any:
        test = truth(self.evaluate(node["test"], scope))
        if test is UNKNOWN:
            return UNKNOWN
        return self.evaluate(node["body"] if test else node["orelse"], scope)

    def eval_Compare(self, node: Node, scope: dict[str, Any]) -> Any:
        left = self.evaluate(node["left"], scope)
        for kind, comparator in zip(node["ops"], node["comparators"], strict=True):
            right = self.evaluate(comparator, scope)
            answer = compare(kind["_"], left, right)
            if answer is UNKNOWN or answer is False:
                return answer
            left = right
        return True

    def eval_BinOp(self, node: Node, scope: dict[str, Any]) -> Any:
        left, right = self.evaluate(node["left"], scope), self.evaluate(node["right"], scope)
        apply = _ARITHMETIC.get(node["op"]["_"])
        numbers = all(isinstance(v, (int, float)) and abs(v) < 1e18 for v in (left, right))
        if apply is None or not numbers:
            return UNKNOWN
        try:
            return apply(left, right)
        except (ZeroDivisionError, OverflowError):
            return UNKNOWN

    def eval_Call(self, node: Node, scope: dict[str, Any]) -> Any:
        name = self.dotted(node["func"]) or ""
        if name in ("require_version", "check_version"):
            self.require(node, scope)
            return UNKNOWN
        if name.startswith("_parse_") and getattr(self, "instances", None):
            return self.instances
        if name.endswith("__post_init__") or name == "self._validate_args":
            return self.call_method(node, name, scope)
        if name == "isinstance" and len(node["args"]) == 2:
            return self.is_instance(self.evaluate(node["args"][0], scope), node["args"][1])
        if name == "list" and (inner := node["args"][:1]) and self.dotted(inner[0]) == "map":
            return self.numbers(inner[0], scope)
        arguments = [self.evaluate(argument, scope) for argument in node["args"]]
        if name in self.functions:
            known = self.functions[name]
            return known(*arguments) if callable(known) else known
        if name in self.source.enums and len(arguments) == 1:
            return self.member(name, arguments[0])
        if name in self.source.functions:
            function = self.source.functions[name]
            names = [argument["arg"] for argument in function["args"]["args"]]
            return self.call_body(function, dict(zip(names, arguments, strict=False)))
        if name in scope and isinstance(scope[name], dict):
            return self.split_arg(scope[name], arguments)
        if node["func"]["_"] == "Attribute":
            return self.text_method(node, arguments, scope)
        return self.builtin(name, arguments)

    def require(self, node: Node, scope: dict[str, Any]) -> None:
        wanted = self.quiet(node["args"][0], scope) if node["args"] else UNKNOWN
        firm = self.dotted(node["func"]) == "require_version" or any(k["arg"] == "mandatory" for k in node["keywords"])
        keys = sorted({key for condition in self.conditions for key in condition})
        if isinstance(wanted, str) and firm and keys:
            self.requirements.append(Requirement(wanted, keys))

    def call_method(self, node: Node, name: str, scope: dict[str, Any]) -> Any:
        made, owner = scope.get("self"), scope.get("__class__")
        if isinstance(made, _Arguments) and isinstance(owner, Class):
            if name == "self._validate_args":
                self.post_init(owner, made, "_validate_args")
            elif name.startswith("super") and owner.bases:
                self.post_init(self.source.classes[owner.bases[0]], made)
            else:  # Base.__post_init__(self); a name that is no class here is an alias, used for the last base
                named = name.partition(".")[0]
                base = named if named in self.source.classes else owner.bases[-1] if owner.bases else None
                if base is not None:
                    self.post_init(self.source.classes[base], made)
        return UNKNOWN

    def member(self, name: str, value: Any) -> Any:
        if value is UNKNOWN or value in self.source.enums[name].values():
            return member(name, value)
        known = ", ".join(str(v) for v in self.source.enums[name].values())
        raise _Fault(f"{value!r} is not a valid {name}, please select one of [{known}]")

    def is_instance(self, value: Any, classes: Node) -> Any:
        """Values come from YAML or are enumeration members, so that no other class of the release can match."""
        if value is UNKNOWN or isinstance(value, _Arguments):
            return UNKNOWN
        names = [self.dotted(n) for n in classes["elts"]] if classes["_"] == "Tuple" else [self.dotted(classes)]
        plain = tuple(_BUILTIN[name] for name in names if name in _BUILTIN)
        return isinstance(value, plain) or (isinstance(value, Member) and value.enum in names)

    def numbers(self, call: Node, scope: dict[str, Any]) -> Any:
        """`list(map(float, …))`."""
        items = self.evaluate(call["args"][1], scope) if len(call["args"]) == 2 else UNKNOWN
        if not isinstance(items, list) or self.dotted(call["args"][0]) not in ("float", "int"):
            return UNKNOWN
        try:
            return [float(item) for item in items]
        except (TypeError, ValueError) as error:
            raise _Fault(str(error)) from None

    def split_arg(self, function: Node, arguments: list[Any]) -> Any:
        """LLaMA-Factory's inner `split_arg`: text is split at commas, anything else is kept."""
        if function["name"] == "split_arg" and len(arguments) == 1 and arguments[0] is not UNKNOWN:
            value = arguments[0]
            return [item.strip() for item in value.split(",")] if isinstance(value, str) else value
        return UNKNOWN

    def text_method(self, node: Node, arguments: list[Any], scope: dict[str, Any]) -> Any:
        owner = self.quiet(node["func"]["value"], scope)
        method = node["func"]["attr"]
        plain = method in _TEXT_METHODS and all(isinstance(argument, str) for argument in arguments)
        return getattr(owner, method)(*arguments) if isinstance(owner, str) and plain else UNKNOWN

    def builtin(self, name: str, arguments: list[Any]) -> Any:
        if any(argument is UNKNOWN for argument in arguments):
            return UNKNOWN
        if name == "len" and isinstance(arguments[0], (str, list, dict)):
            return len(arguments[0])
        if name in ("int", "float") and isinstance(arguments[0], (int, float)) and abs(arguments[0]) < 1e18:
            return int(arguments[0]) if name == "int" else float(arguments[0])
        return UNKNOWN

    def eval_ListComp(self, node: Node, scope: dict[str, Any]) -> Any:
        """`[item.strip() for item in text.split(",")]` and the like."""
        generator = node["generators"][0]
        items = self.evaluate(generator["iter"], scope)
        if len(node["generators"]) > 1 or generator["ifs"] or not isinstance(items, list):
            return UNKNOWN
        found = []
        for item in items[:1000]:
            inner = dict(scope)
            self.assign(generator["target"], item, inner)
            found.append(self.evaluate(node["elt"], inner))
        return UNKNOWN if any(value is UNKNOWN for value in found) else found

    def dotted(self, node: Node | None) -> str | None:
        """`os.path.isdir` of a chain of names; `super` for a call of super()."""
        if node is None:
            return None
        if node["_"] == "Name":
            return str(node["id"])
        if node["_"] == "Call":
            return self.dotted(node["func"])
        if node["_"] == "Attribute":
            inner = self.dotted(node["value"])
            return f"{inner}.{node['attr']}" if inner else None
        return None


_TEXT_METHODS = ("startswith", "endswith", "split", "strip", "lower")
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "Add": operator.add, "Sub": operator.sub, "Mult": operator.mul, "Mod": operator.mod, "Div": operator.truediv,
}  # fmt: skip
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "Lt": operator.lt,
    "LtE": operator.le,
    "Gt": operator.gt,
    "GtE": operator.ge,
}


_BUILTIN: dict[str | None, type] = {
    "str": str, "int": int, "float": float, "bool": bool, "list": list, "dict": dict, "tuple": tuple, "type": type,
}  # fmt: skip


def member(enum: str, value: Any) -> Any:
    """The value as a member of the enumeration; UNKNOWN and values that are no text stay what they are."""
    if not isinstance(value, str):
        return value
    made = Member(value)
    made.enum = enum
    return made


def truth(value: Any) -> Any:
    """True, False or UNKNOWN."""
    return UNKNOWN if value is UNKNOWN or isinstance(value, _Arguments) else bool(value)


def compare(kind: str, left: Any, right: Any) -> Any:
    """One comparison. Raises _Fault where Python would raise TypeError on these values."""
    if isinstance(left, _Arguments) and right is None and kind in ("Is", "IsNot"):
        return kind == "IsNot"
    if left is UNKNOWN or right is UNKNOWN or isinstance(left, _Arguments) or isinstance(right, _Arguments):
        return UNKNOWN
    if kind in ("Eq", "NotEq"):
        return (left == right) is (kind == "Eq")
    if kind in ("Is", "IsNot"):
        same = left is right if left is None or right is None or isinstance(right, bool) else UNKNOWN
        return UNKNOWN if same is UNKNOWN else same is (kind == "Is")
    if kind in ("In", "NotIn"):
        if not isinstance(right, (list, str, dict, tuple)) or (isinstance(right, str) and not isinstance(left, str)):
            return UNKNOWN
        return (left in right) is (kind == "In")
    if kind in _ORDER:
        try:
            return _ORDER[kind](left, right)
        except TypeError as error:
            raise _Fault(str(error)) from None
    return UNKNOWN
