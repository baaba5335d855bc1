"""The argument dataclasses of the LLaMA-Factory and transformers that will run, from their source as syntax trees.

Fields with types, choices and defaults, inheritance included; and the code that checks them (`__post_init__`,
`get_train_args`) in a plain form that `refusals` can follow and that a cache can hold. Nothing is imported or executed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from doctor import syntax

FUNCTIONS = ("get_train_args", "get_infer_args", "get_eval_args", "_verify_model_args", "_check_extra_dependencies",
             "_verify_trackio_args")  # fmt: skip
# Where transformers defines what is imported from its top level.
_IN_TRANSFORMERS = {"Seq2SeqTrainingArguments": "training_args_seq2seq.py", "TrainingArguments": "training_args.py"}
_OWN_FILES = (
    "parser",
    "model_args",
    "data_args",
    "finetuning_args",
    "generating_args",
    "evaluation_args",
    "training_args",
)
_ENUM_FILES = ("trainer_utils.py", "training_args.py", "debug_utils.py")

Node = dict[str, Any]


class Field(msgspec.Struct, frozen=True):
    """One argument. `types`: bool, int, float, str, list, dict, None; empty where the annotation says nothing to us.

    `choices` come from Literal, an enumeration or the field's metadata. `default` is the packed expression, None where
    there is none.
    """

    name: str
    owner: str
    annotation: str
    types: list[str]
    choices: list[Any] = []
    enum: str | None = None
    default: Node | None = None
    required: bool = False
    split: bool = False  # text that its class splits as it stands: a list in its place ends the run


class Class(msgspec.Struct, frozen=True):
    """A dataclass: its fields (inherited ones first), its methods that run on construction, and its base classes."""

    name: str
    file: str
    fields: dict[str, Field]
    methods: dict[str, Node]
    bases: list[str]


class Source(msgspec.Struct, frozen=True):
    """Everything of one target. `groups`: subcommand -> classes in the order in which they are built."""

    groups: dict[str, list[str]]
    classes: dict[str, Class]
    functions: dict[str, Node]
    enums: dict[str, dict[str, Any]]
    converts_floats: bool  # the recipe is loaded by OmegaConf, which reads 1e-5 as a number
    files: list[str]


def files(package: Path, transformers: Path) -> list[Path]:
    """The files that `read` depends on, for a cache."""
    own = [package / "hparams" / f"{name}.py" for name in _OWN_FILES]
    own.append(package / "extras" / "constants.py")
    theirs = [transformers / name for name in (*_ENUM_FILES, "training_args_seq2seq.py")]
    return [path for path in own + theirs if path.is_file()]


def read(package: Path, transformers: Path) -> Source:
    """Raises OSError, SyntaxError when a file is missing or is not Python."""
    return Reader(package, transformers).read()


class Reader:
    def __init__(self, package: Path, transformers: Path) -> None:
        self.package, self.transformers = package, transformers
        self.trees: dict[Path, ast.Module] = {}
        self.classes: dict[str, Class] = {}
        self.enums: dict[str, dict[str, Any]] = {}

    def read(self) -> Source:
        parser_file = self.package / "hparams" / "parser.py"
        parser = self.tree(parser_file)
        self.read_enums()
        groups = {}
        for command, variable in (("train", "_TRAIN_ARGS"), ("infer", "_INFER_ARGS"), ("eval", "_EVAL_ARGS")):
            names = _listed_names(parser, variable)
            found = [self.resolve(name, parser_file) for name in names]
            groups[command] = [cls.name for cls in found if cls is not None]
        functions = {n.name: pack(n) for n in parser.body if isinstance(n, ast.FunctionDef) and n.name in FUNCTIONS}
        text = parser_file.read_text(encoding="utf-8")
        return Source(
            groups, self.classes, functions, self.enums, "OmegaConf" in text, [str(path) for path in self.trees]
        )

    def tree(self, path: Path) -> ast.Module:
        if path not in self.trees:
            self.trees[path] = syntax.tree(path.read_text(encoding="utf-8"), filename=str(path))
        return self.trees[path]

    def read_enums(self) -> None:
        paths = [self.transformers / name for name in _ENUM_FILES] + [self.package / "extras" / "constants.py"]
        for path in paths:
            if path.is_file():
                self.read_enums_of(path)

    def read_enums_of(self, path: Path) -> None:
        for node in self.tree(path).body:
            if isinstance(node, ast.ClassDef) and any("Enum" in ast.unparse(base) for base in node.bases):
                self.enums[node.name] = dict(_members(node))

    def resolve(self, name: str, file: Path) -> Class | None:
        """The class called `name` in `file`: defined there, an alias, or imported there. None when out of sight."""
        tree = self.tree(file)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name == name:
                return self.read_class(node, file)
        for node in ast.walk(tree):  # BaseTrainingArguments = Seq2SeqTrainingArguments
            if (
                isinstance(node, ast.Assign)
                and ast.unparse(node.targets[0]) == name
                and isinstance(node.value, ast.Name)
            ):
                found = self.resolve(node.value.id, file)
                if found is not None:
                    return found
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if (alias.asname or alias.name) == name and (path := self.module(node, alias.name, file)):
                        return self.resolve(alias.name, path)
        return None

    def module(self, node: ast.ImportFrom, name: str, file: Path) -> Path | None:
        parts = (node.module or "").split(".") if node.module else []
        if node.level:
            base = file.parent
            for _ in range(node.level - 1):
                base = base.parent
            path = base.joinpath(*parts).with_suffix(".py")
        elif parts and parts[0] == "transformers":
            known = _IN_TRANSFORMERS.get(name)
            path = (
                self.transformers.joinpath(*parts[1:]).with_suffix(".py")
                if len(parts) > 1
                else self.transformers / str(known)
            )
        else:
            return None
        return path if path.is_file() else None

    def read_class(self, node: ast.ClassDef, file: Path) -> Class:
        key = node.name
        if key in self.classes and self.classes[key].file == str(file):
            return self.classes[key]
        bases = [base for name in node.bases if (base := self.resolve(ast.unparse(name), file)) is not None]
        fields: dict[str, Field] = {}
        for base in reversed(bases):
            fields |= base.fields
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                made = self.field(statement, key)
                if made is not None:
                    fields[statement.target.id] = made
                else:
                    fields.pop(statement.target.id, None)
        constructing = [n for n in node.body if isinstance(n, ast.FunctionDef) and on_construction(n.name)]
        for name in {name for method in constructing for name in _split(method)} & fields.keys():
            fields[name] = msgspec.structs.replace(fields[name], split=True)
        methods = {n.name: pack(n) for n in constructing}
        if key in self.classes:  # another class of the same name: transformers' and LLaMA-Factory's TrainingArguments
            key = f"{file.stem}.{key}"
        made_class = Class(key, str(file), fields, methods, [base.name for base in bases])
        self.classes[key] = made_class
        return made_class

    def field(self, node: ast.AnnAssign, owner: str) -> Field | None:
        """None for what is no argument: ClassVar, init=False."""
        annotation = ast.unparse(node.annotation)
        if annotation.startswith("ClassVar"):
            return None
        default = node.value
        required = default is None
        offered: list[Any] = []
        if isinstance(default, ast.Call) and ast.unparse(default.func).endswith("field"):
            given = {k.arg: k.value for k in default.keywords}
            init = given.get("init")
            if isinstance(init, ast.Constant) and init.value is False:
                return None
            required = "default" not in given and "default_factory" not in given
            default = given.get("default")
            offered = _offered(given.get("metadata"))
        types, choices, enum = self.annotated(node.annotation)
        choices = choices or (offered if "str" in types else [])
        packed = pack(default) if default is not None else None
        name = node.target.id if isinstance(node.target, ast.Name) else ""
        return Field(name, owner, annotation, types, choices, enum, packed, required)

    def annotated(self, node: ast.expr) -> tuple[list[str], list[Any], str | None]:
        """Types, choices and enumeration that an annotation allows; no types when a part of it is not understood."""
        types: list[str] = []
        choices: list[Any] = []
        enum: str | None = None
        for part in _union_parts(node):
            name = part if isinstance(part, str) else ast.unparse(part)
            head = name.partition("[")[0].rpartition(".")[2]
            if isinstance(part, ast.Subscript) and head == "Literal":
                inner = part.slice.elts if isinstance(part.slice, ast.Tuple) else [part.slice]
                choices += [e.value for e in inner if isinstance(e, ast.Constant)]
                types += sorted({type(c).__name__ for c in choices})
            elif head in _TYPES:
                types.append(_TYPES[head])
            elif head in self.enums:
                enum = head
                choices += list(self.enums[head].values())
                types.append("str")
            else:
                return [], [], None
        if "str" in types and enum and any(t != "None" and t != "str" for t in types):
            choices, enum = [], None
        return list(dict.fromkeys(types)), choices, enum


# log levels of transformers.utils.logging, of which trainer_log_levels is made
_LOG_LEVELS = ["detail", "debug", "info", "warning", "error", "critical", "passive"]


def _offered(metadata: ast.expr | None) -> list[Any]:
    """The choices that only `--help` enforces; what is none of them fails where it is used, or does nothing."""
    if not isinstance(metadata, ast.Dict):
        return []
    given = {k.value: v for k, v in zip(metadata.keys, metadata.values, strict=True) if isinstance(k, ast.Constant)}
    choices = given.get("choices")
    if isinstance(choices, (ast.List, ast.Tuple)):
        return [e.value for e in choices.elts if isinstance(e, ast.Constant)]
    return _LOG_LEVELS if choices is not None and ast.unparse(choices) == "trainer_log_levels.keys()" else []


def _split(method: ast.FunctionDef) -> Iterator[str]:
    """Names of `self.name.split(...)`."""
    for node in ast.walk(method):
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Attribute) and called.attr == "split" and isinstance(called.value, ast.Attribute):
            yield called.value.attr


def on_construction(name: str) -> bool:
    """Whether a method is part of construction: transformers 5 checks fsdp in `_process_fsdp_args`."""
    return name in ("__post_init__", "_validate_args") or name.startswith("_process_")


_TYPES = {"bool": "bool", "int": "int", "float": "float", "str": "str", "None": "None", "list": "list", "List": "list",
          "dict": "dict", "Dict": "dict", "Sequence": "list", "Tuple": "list", "tuple": "list"}  # fmt: skip


def _union_parts(node: ast.expr) -> Iterator[ast.expr | str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            yield from _union_parts(syntax.expression(node.value))
        except SyntaxError:
            yield node.value
    elif isinstance(node, ast.Constant) and node.value is None:
        yield "None"
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        yield from _union_parts(node.left)
        yield from _union_parts(node.right)
    elif isinstance(node, ast.Subscript) and ast.unparse(node.value).rpartition(".")[2] in ("Optional", "Union"):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        for part in inner:
            yield from _union_parts(part)
        if ast.unparse(node.value).endswith("Optional"):
            yield "None"
    else:
        yield node


def _listed_names(tree: ast.Module, variable: str) -> list[str]:
    for node in tree.body:
        named = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == variable
        if named and isinstance(node, ast.Assign) and isinstance(node.value, (ast.List, ast.Tuple)):
            return [e.id for e in node.value.elts if isinstance(e, ast.Name)]
    return []


def _members(node: ast.ClassDef) -> Iterator[tuple[str, Any]]:
    for statement in node.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            yield ast.unparse(statement.targets[0]), statement.value.value


# -- the plain form of code -----------------------------------------------------------------------------------------------
def pack(node: ast.AST) -> Node:
    """A syntax tree as JSON can hold it: `{"_": class of the node, "line": …, fields…}`; documentation strings dropped."""
    packed: Node = {"_": type(node).__name__}
    if isinstance(node, ast.Constant):
        plain = isinstance(node.value, (bool, int, float, str)) or node.value is None
        return packed | {"value": node.value} if plain and not _huge(node.value) else {"_": "Opaque"}
    if isinstance(node, (ast.stmt, ast.Raise)):
        packed["line"] = node.lineno
    for name, value in ast.iter_fields(node):
        if name in ("ctx", "type_comment", "decorator_list", "returns", "annotation", "type_params", "kind"):
            continue
        if isinstance(value, ast.AST):
            packed[name] = pack(value)
        elif isinstance(value, list):
            packed[name] = [pack(v) if isinstance(v, ast.AST) else v for v in value if not _is_text(v)]
        elif isinstance(value, (str, int)) or value is None:
            packed[name] = value
    return packed


def _huge(value: Any) -> bool:
    return isinstance(value, int) and abs(value) >= 1 << 63


def _is_text(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
