"""The tensors that a model class makes, followed through its source: sizes as expressions of the configuration.

Read are the `__init__` of the classes of one modeling file: `self.q_proj = nn.Linear(config.hidden_size, …)`. A size is a
set of possible numbers: a class is made with several arguments, and not every condition can be decided. None is unknown
and fits anything, so that what cannot be followed is not judged.
"""

from __future__ import annotations

import ast
import itertools
import operator
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from doctor import syntax

Sizes = frozenset[Any] | None
_MOST = 24  # values of one expression that are kept apart
_MAY_BE_TIED = ("lm_head", "embed_out", "output_layer")  # also where the class does not say so
_OPERATORS = {ast.Mult: operator.mul, ast.Add: operator.add, ast.Sub: operator.sub, ast.FloorDiv: operator.floordiv}


class Made(msgspec.Struct):
    """Modules by name: the possible shapes of their `weight`, whether one lies under no condition, whether they have a
    bias, the length of lists; `fused`: parameters that hold the matrices of all experts; `open`: names that classes make
    which were not followed; `tied`: heads that the class says are the embedding, which are saved once."""

    shapes: dict[str, list[tuple[Sizes, ...]]] = {}
    always: dict[str, bool] = {}
    biases: dict[str, Sizes] = {}
    lengths: dict[str, Sizes] = {}
    fused: dict[str, tuple[Sizes, ...]] = {}
    open: set[str] = set()
    tied: set[str] = set()


class _Class(msgspec.Struct):
    """`settings`: what the parameters of __init__ may be, by name."""

    node: ast.FunctionDef
    parameters: list[str]
    settings: dict[str, Sizes]


def made(source: str, settings: Mapping[str, Any], root: str) -> Made:
    """Of the class `root` and those that it is made of. Raises SyntaxError. `settings`: config.json over the defaults."""
    classes = {}
    tied = set(_MAY_BE_TIED)
    tables: dict[str, set[str]] = {}  # QWEN2_ATTENTION_CLASSES = {"eager": Qwen2Attention, …}
    for node in syntax.tree(source).body:
        if isinstance(node, ast.ClassDef):
            tied |= _tied(node) if node.name == root else set()
            method = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
            if method is not None:
                classes[node.name] = _Class(method, [a.arg for a in method.args.args[1:]], _defaults(method, settings))
        elif (
            isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Dict)
        ):
            tables[node.targets[0].id] = {v.id for v in node.value.values if isinstance(v, ast.Name)}
    found = Made(tied=tied)
    if root in classes:
        reader = _Reader(classes, tables, settings, found)
        reader.read(root, True, [], "")
        for name in classes.keys() - reader.seen:
            found.open |= {
                node.attr
                for node in ast.walk(classes[name].node)
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
            }
    return found


def _tied(node: ast.ClassDef) -> set[str]:
    """Modules that `_tied_weights_keys` names: decoder of cls.predictions.decoder.weight."""
    named = (
        statement.value
        for statement in node.body
        if isinstance(statement, ast.Assign) and getattr(statement.targets[0], "id", "") == "_tied_weights_keys"
    )
    texts = [part.value for value in named for part in ast.walk(value) if isinstance(part, ast.Constant)]
    names = [text.removesuffix(".weight") for text in texts if isinstance(text, str) and not text.endswith(".bias")]
    return {name.rpartition(".")[2] for name in names}


def _defaults(method: ast.FunctionDef, settings: Mapping[str, Any]) -> dict[str, Sizes]:
    names, values = [a.arg for a in method.args.args], method.args.defaults
    return {
        name: frozenset([value.value]) if isinstance(value, ast.Constant) else None
        for name, value in zip(names[len(names) - len(values) :], values, strict=True)
    }


class _Reader:
    """Follows one class after the other; what `config` says is known."""

    def __init__(
        self,
        classes: Mapping[str, _Class],
        tables: Mapping[str, set[str]],
        settings: Mapping[str, Any],
        found: Made,
    ) -> None:
        self.classes, self.tables, self.settings, self.found = classes, dict(tables), settings, found
        self.seen: set[str] = set()
        self.called = ""  # the name that the class being read goes by

    def read(
        self, name: str, certain: bool, above: list[str], called: str, given: Mapping[str, Sizes] | None = None
    ) -> None:
        if name in above or len(above) > 12:
            return
        cls = self.classes[name]
        self.seen.add(name)
        before, self.called = self.called, called
        known = {**cls.settings, **(given or {})}
        scope: dict[str, Sizes] = {p: known.get(p) for p in cls.parameters}
        self._statements(cls.node.body, scope, certain, [*above, name])
        self.called = before

    def _statements(self, body: list[ast.stmt], scope: dict[str, Sizes], certain: bool, above: list[str]) -> None:
        for statement in body:
            if isinstance(statement, ast.If):
                truth = self.value(statement.test, scope)
                decided = None if truth is None or len(truth) != 1 else bool(next(iter(truth)))
                if decided is not False:
                    self._statements(statement.body, scope, certain and decided is True, above)
                if decided is not True:
                    self._statements(statement.orelse, scope, certain and decided is False, above)
            elif isinstance(statement, ast.Assign) and len(statement.targets) == 1:
                self._assigned(statement.targets[0], statement.value, scope, certain, above)
            elif isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
                scope[statement.target.id] = None  # counted up, under conditions: not followed

    def _assigned(
        self, target: ast.expr, value: ast.expr, scope: dict[str, Sizes], certain: bool, above: list[str]
    ) -> None:
        name = target.attr if isinstance(target, ast.Attribute) else target.id if isinstance(target, ast.Name) else None
        if name is None:
            return
        key = f"self.{name}" if isinstance(target, ast.Attribute) else name
        if isinstance(value, ast.Subscript) and isinstance(value.value, ast.Name) and value.value.id in self.tables:
            self.tables[name] = self.tables[value.value.id]
            return
        if not isinstance(value, ast.Call) or _called(value) in ("getattr", "int", "max", "min"):
            values = self.value(value, scope)
            both = key in scope and not certain and scope[key] is not None and values is not None
            scope[key] = scope[key] | values if both else values  # type: ignore[operator]
            return
        self._module(name, value, scope, certain, above)

    def _module(self, name: str, call: ast.Call, scope: dict[str, Sizes], certain: bool, above: list[str]) -> None:
        kind = _called(call)
        arguments = [self.value(argument, scope) for argument in call.args]
        keywords = {k.arg: self.value(k.value, scope) for k in call.keywords if k.arg}
        if kind == "ModuleList" and call.args and isinstance(call.args[0], (ast.ListComp, ast.GeneratorExp)):
            listed = call.args[0]
            self._length(name, listed.generators[0].iter, scope)
            if isinstance(listed.elt, ast.Call):
                self._module(name, listed.elt, scope, certain, above)
        elif kind == "Parameter" and call.args and isinstance(call.args[0], ast.Call):
            sizes = tuple(self.value(argument, scope) for argument in call.args[0].args)
            if name == "weight" and len(sizes) == 2:
                self._shape(self.called, sizes, False)
            elif len(sizes) == 3:
                self.found.fused[name] = sizes
            self.found.open |= {name} if name != "weight" else set()
        elif kind == "Linear":
            rows, columns = _nth(arguments, keywords, 1, "out_features"), _nth(arguments, keywords, 0, "in_features")
            self._shape(name, (rows, columns), certain)
            bias = (
                _nth(arguments, keywords, 2, "bias") if len(arguments) > 2 or "bias" in keywords else frozenset([True])
            )
            before = self.found.biases.get(name, frozenset())
            self.found.biases[name] = None if bias is None or before is None else before | bias
        elif kind == "Conv1D":
            self._shape(name, (_nth(arguments, keywords, 1, "nx"), _nth(arguments, keywords, 0, "nf")), certain)
        elif kind == "Embedding":
            rows, width = _nth(arguments, keywords, 0, "num_embeddings"), _nth(arguments, keywords, 1, "embedding_dim")
            self._shape(name, (rows, width), certain)
        else:
            for chosen in {kind} | self.tables.get(_table(call) or kind, set()):
                if chosen in self.classes:
                    parameters = self.classes[chosen].parameters
                    given = dict(zip(parameters, arguments, strict=False)) | keywords
                    self.read(chosen, certain and chosen == kind, above, name, given)

    def _shape(self, name: str, shape: tuple[Sizes, ...], certain: bool) -> None:
        shapes = self.found.shapes.setdefault(name, [])
        if shape not in shapes:
            shapes.append(shape)
        self.found.always[name] = self.found.always.get(name, False) or certain

    def _length(self, name: str, over: ast.expr, scope: dict[str, Sizes]) -> None:
        simple = isinstance(over, ast.Call) and _called(over) == "range" and len(over.args) == 1
        seen = self.value(over.args[0], scope) if simple and isinstance(over, ast.Call) else None
        before = self.found.lengths.get(name, frozenset())
        self.found.lengths[name] = None if seen is None or before is None else before | seen

    # -- expressions
    def value(self, node: ast.expr, scope: Mapping[str, Sizes]) -> Sizes:
        try:
            found = self._value(node, scope)
            hash(found)
        except (TypeError, ValueError, ArithmeticError, RecursionError):
            return None
        return found if found is None or len(found) <= _MOST else None

    def _value(self, node: ast.expr, scope: Mapping[str, Sizes]) -> Sizes:
        if isinstance(node, ast.Constant):
            return frozenset([node.value])
        if isinstance(node, ast.Name):
            return scope.get(node.id)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            return scope.get(f"self.{node.attr}") if node.value.id == "self" else self._setting(node)
        if isinstance(node, ast.Attribute):  # self.config.hidden_size
            return self._setting(node) if getattr(node.value, "attr", "") == "config" else None
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            left, right, do = self.value(node.left, scope), self.value(node.right, scope), _OPERATORS[type(node.op)]
            return None if left is None or right is None else frozenset(do(a, b) for a in left for b in right)
        if isinstance(node, ast.IfExp):
            test, one, other = (self.value(n, scope) for n in (node.test, node.body, node.orelse))
            if test is not None and len(test) == 1:
                return one if next(iter(test)) else other
            return None if one is None or other is None else one | other
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or) and len(node.values) == 2:
            one, other = (self.value(n, scope) for n in node.values)
            if one is not None and all(one):
                return one
            return None if one is None or other is None else frozenset(filter(None, one)) | other
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            held = self.value(node.operand, scope)
            return None if held is None else frozenset(not one for one in held)
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            return self._compared(node, scope)
        if isinstance(node, ast.Call):
            return self._call(node, scope)
        return None

    def _compared(self, node: ast.Compare, scope: Mapping[str, Sizes]) -> Sizes:
        one, other, kind = self.value(node.left, scope), self.value(node.comparators[0], scope), type(node.ops[0])
        signs = {ast.Is: operator.is_, ast.IsNot: operator.is_not, ast.Eq: operator.eq, ast.NotEq: operator.ne,
                 ast.Gt: operator.gt, ast.Lt: operator.lt, ast.GtE: operator.ge, ast.LtE: operator.le}  # fmt: skip
        if one is None or other is None or kind not in signs:
            return None
        return frozenset(signs[kind](a, b) for a in one for b in other)

    def _call(self, node: ast.Call, scope: Mapping[str, Sizes]) -> Sizes:
        kind = _called(node)
        if kind == "int" and len(node.args) == 1:
            held = self.value(node.args[0], scope)
            return None if held is None else frozenset(int(one) for one in held)
        if kind == "getattr" and len(node.args) >= 2 and isinstance(node.args[1], ast.Constant):
            name = str(node.args[1].value)
            if name in self.settings:
                return frozenset([self.settings[name]])
            return self.value(node.args[2], scope) if len(node.args) == 3 else None
        return None

    def _setting(self, node: ast.Attribute) -> Sizes:
        held = getattr(node.value, "id", getattr(node.value, "attr", ""))
        return frozenset([self.settings[node.attr]]) if held == "config" and node.attr in self.settings else None


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _table(call: ast.Call) -> str | None:
    """CLASSES of CLASSES[config._attn_implementation](config)."""
    of = call.func.value if isinstance(call.func, ast.Subscript) else None
    return of.id if isinstance(of, ast.Name) else None


def _nth(arguments: list[Sizes], keywords: Mapping[str, Sizes], at: int, name: str) -> Sizes:
    return arguments[at] if at < len(arguments) else keywords.get(name)


# -- against the weights --------------------------------------------------------------------------------------------------


def misfits(found: Made, outline: Mapping[str, Mapping[str, Any]], renamed: bool) -> Iterator[str]:
    """In words. `outline`: name with stars for numbers -> its shapes, and how far each of the numbers goes; `renamed`:
    transformers changes names while it loads, so that what is not there by name may be there."""
    there = {part for name in outline for part in name.split(".")}
    shapes = found.shapes if "experts" in found.lengths else _of_experts(found)
    seen: dict[str, int] = {}
    for name, held in outline.items():
        module, _, kind = name.rpartition(".")
        last = module.rpartition(".")[2]
        candidates = shapes.get(
            f"experts.*.{last}" if ".experts.*." in name and "experts" not in found.lengths else last
        )
        if last in found.open and ".experts." not in name:
            continue
        if kind == "weight" and candidates:
            odd = [s for s in held["shapes"] if not any(_fits(s, candidate) for candidate in candidates)]
            if odd:
                yield f"{name} is {odd[0]} in the weights, {' or '.join(map(_named, candidates[:2]))} by config.json"
        biased = found.biases.get(last)
        if kind == "weight" and biased == frozenset([True]) and f"{module}.bias" not in outline and last in shapes:
            yield f"{module}.bias is not in the weights"
        elif kind == "bias" and biased == frozenset([False]):
            yield f"{name} has no place in the model"
        parts = name.split(".")
        lists = [part for part, after in itertools.pairwise(parts) if after == "*"]
        for part, count in zip(lists, held["counts"], strict=False):
            seen[part] = max(count, seen.get(part, 0))
    yield from _counted(found, seen)
    for name, certain in found.always.items():
        if certain and not renamed and name in found.shapes and name not in there and name not in found.tied:
            yield f"{name} is not in the weights"
    if ("experts" in found.lengths or found.fused) and not any(
        "expert" in part or part in found.fused for part in there
    ):
        yield "the model has experts by config.json, the weights have none"


def _counted(found: Made, seen: Mapping[str, int]) -> Iterator[str]:
    lengths = dict(found.lengths)
    if found.fused and "experts" not in lengths:
        lengths["experts"] = next(iter(found.fused.values()))[0]
    for part, count in seen.items():
        called_for = lengths.get(part)
        if not called_for or not all(isinstance(n, int) for n in called_for):
            continue
        if count < min(called_for) or (part == "experts" and count > max(called_for)):
            yield f"{count} {part} in the weights, {min(called_for)} by config.json"


def _of_experts(found: Made) -> dict[str, list[tuple[Sizes, ...]]]:
    """The shapes of the matrices of one expert, where the class holds those of all in one: gate and up in one half each."""
    shapes = dict(found.shapes)
    both, down = found.fused.get("gate_up_proj"), found.fused.get("down_proj")
    if both is not None:
        half = None if both[1] is None else frozenset(n // 2 for n in both[1] if isinstance(n, int))
        shapes |= {f"experts.*.{name}": [(half, both[2])] for name in ("gate_proj", "up_proj", "w1", "w3")}
    if down is not None:
        shapes |= {f"experts.*.{name}": [down[1:]] for name in ("down_proj", "w2")}
    return shapes


def _fits(shape: list[int], candidate: tuple[Sizes, ...]) -> bool:
    return len(shape) == len(candidate) and all(s is None or n in s for n, s in zip(shape, candidate, strict=True))


def _named(candidate: tuple[Sizes, ...]) -> str:
    return "[" + ", ".join("?" if s is None else "/".join(map(str, sorted(s, key=str))) for s in candidate) + "]"
