"""Evaluates packed expressions (`argument_source.pack`) over a recipe's values with three-valued logic.

It runs no code: it knows comparisons, boolean logic, plain arithmetic, a few methods of text, and enumerations. What
depends on the machine, on other calls or on anything not understood is UNKNOWN.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from doctor.recipe.argument_source import Node, Source, on_construction

DEEPEST = 60  # nested calls and expressions


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = _Unknown()


class Member(str):
    """A member of an enumeration of strings, as transformers has them: equal to its text, but not a plain string."""

    enum = ""


class Fault(Exception):
    """An error that evaluating the release's own expression would raise on these values (TypeError, ValueError)."""


class Arguments:
    """One dataclass instance: attribute -> value or UNKNOWN."""

    def __init__(self, name: str, values: dict[str, Any]) -> None:
        self.name, self.values = name, values


class Expressions:
    """Values of expressions. A subclass runs statements, calls and constructors."""

    source: Source
    environment: Mapping[str, Any]
    functions: Mapping[str, Any]
    instances: list[Arguments]
    depth: int

    def require(self, node: Node, scope: dict[str, Any]) -> None:
        """A call of require_version or check_version."""
        raise NotImplementedError

    def call_method(self, node: Node, name: str, scope: dict[str, Any]) -> Any:
        """A call of a method that is part of construction."""
        raise NotImplementedError

    def call_body(self, function: Node, scope: dict[str, Any]) -> Any:
        """A call of a function of the release."""
        raise NotImplementedError

    def assign(self, target: Node, value: Any, scope: dict[str, Any]) -> None:
        """Bind a name, an attribute or a tuple of them."""
        raise NotImplementedError

    def quiet(self, node: Node | None, scope: dict[str, Any]) -> Any:
        """The value of an expression, UNKNOWN where evaluating it would fail."""
        try:
            return self.evaluate(node, scope) if node else UNKNOWN
        except Fault:
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
        if isinstance(owner, Arguments):
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
        if name.startswith("_parse_") and self.instances:
            return self.instances
        if name.endswith("__post_init__") or (name.startswith("self.") and on_construction(name[5:])):
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

    def member(self, name: str, value: Any) -> Any:
        if value is UNKNOWN or value in self.source.enums[name].values():
            return member(name, value)
        known = ", ".join(str(v) for v in self.source.enums[name].values())
        raise Fault(f"{value!r} is not a valid {name}, please select one of [{known}]")

    def is_instance(self, value: Any, classes: Node) -> Any:
        """Values come from YAML or are enumeration members, so that no other class of the release can match."""
        if value is UNKNOWN or isinstance(value, Arguments):
            return UNKNOWN
        names = [self.dotted(n) for n in classes["elts"]] if classes["_"] == "Tuple" else [self.dotted(classes)]
        plain = tuple(_BUILTIN[name] for name in names if name in _BUILTIN)
        return isinstance(value, plain) or (isinstance(value, Member) and value.enum in names)

    def numbers(self, call: Node, scope: dict[str, Any]) -> Any:
        """`list(map(float, …))`."""
        items = self.evaluate(call["args"][1], scope) if len(call["args"]) == 2 else UNKNOWN
        if isinstance(items, (bool, int, float)):
            raise Fault(f"'{type(items).__name__}' object is not iterable")
        if not isinstance(items, list) or self.dotted(call["args"][0]) not in ("float", "int"):
            return UNKNOWN
        try:
            return [float(item) for item in items]
        except (TypeError, ValueError) as error:
            raise Fault(str(error)) from None

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
    return UNKNOWN if value is UNKNOWN or isinstance(value, Arguments) else bool(value)


def compare(kind: str, left: Any, right: Any) -> Any:
    """One comparison. Raises Fault where Python would raise TypeError on these values."""
    if isinstance(left, Arguments) and right is None and kind in ("Is", "IsNot"):
        return kind == "IsNot"
    if left is UNKNOWN or right is UNKNOWN or isinstance(left, Arguments) or isinstance(right, Arguments):
        return UNKNOWN
    if kind in ("Eq", "NotEq"):
        return (left == right) is (kind == "Eq")
    if kind in ("Is", "IsNot"):
        same = left is right if left is None or right is None or isinstance(right, bool) else UNKNOWN
        return UNKNOWN if same is UNKNOWN else same is (kind == "Is")
    if kind in ("In", "NotIn"):
        if isinstance(right, (bool, int, float)):
            raise Fault(f"argument of type '{type(right).__name__}' is not iterable")
        if not isinstance(right, (list, str, dict, tuple)) or (isinstance(right, str) and not isinstance(left, str)):
            return UNKNOWN
        return (left in right) is (kind == "In")
    if kind in _ORDER:
        try:
            return _ORDER[kind](left, right)
        except TypeError as error:
            raise Fault(str(error)) from None
    return UNKNOWN
