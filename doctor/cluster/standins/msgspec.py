"""The part of msgspec that collecting facts uses, in plain Python: structs, conversion, JSON.

Same names, same results for what the probes do with them; slower. The zipapp carries it as `msgspec`.
"""

from __future__ import annotations

import copy
import enum
import inspect
import json as _json
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, ClassVar


class MsgspecError(Exception):
    pass


class DecodeError(MsgspecError):
    pass


class ValidationError(DecodeError):
    pass


class Raw(bytes):
    """JSON text that was not decoded."""


class _Field:
    def __init__(self, default: Any, default_factory: Callable[[], Any] | None, name: str | None) -> None:
        self.default, self.default_factory, self.name = default, default_factory, name


_NOTHING: Any = object()


def field(*, default: Any = _NOTHING, default_factory: Callable[[], Any] | None = None, name: str | None = None) -> Any:
    return _Field(default, default_factory, name)


class Struct:
    """Fields from the annotations, in order; positional or by keyword. Mutable defaults are copied for each."""

    __struct_fields__: tuple[str, ...] = ()
    _defaults: ClassVar[dict[str, _Field]] = {}
    _frozen = False
    _strict = False

    def __init_subclass__(cls, frozen: bool = False, forbid_unknown_fields: bool = False, **_: Any) -> None:
        own = list(inspect.get_annotations(cls))
        cls.__struct_fields__ = (*cls.__struct_fields__, *(name for name in own if name not in cls.__struct_fields__))
        cls._defaults = dict(cls._defaults)
        for name in own:
            given = cls.__dict__.get(name, _NOTHING)
            if isinstance(given, _Field):
                cls._defaults[name] = given
            elif given is not _NOTHING:
                cls._defaults[name] = _Field(given, None, None)
            if name in cls.__dict__:
                delattr(cls, name)
        cls._frozen = frozen or cls._frozen
        cls._strict = forbid_unknown_fields

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        names = self.__struct_fields__
        if len(args) > len(names):
            raise TypeError(f"{type(self).__name__} takes {len(names)} values")
        values = dict(zip(names, args, strict=False)) | kwargs
        if unknown := values.keys() - set(names):
            raise TypeError(f"{type(self).__name__} has no {', '.join(unknown)}")
        for name in names:
            value = values[name] if name in values else self._default(name)
            if value is _NOTHING:
                raise TypeError(f"{type(self).__name__} lacks {name}")
            object.__setattr__(self, name, value)
        if hasattr(self, "__post_init__"):
            self.__post_init__()

    @classmethod
    def _default(cls, name: str) -> Any:
        known = cls._defaults.get(name)
        if known is None:
            return _NOTHING
        if known.default_factory is not None:
            return known.default_factory()
        return copy.copy(known.default) if isinstance(known.default, (list, dict, set)) else known.default

    def __setattr__(self, name: str, value: Any) -> None:
        if self._frozen:
            raise AttributeError(f"{type(self).__name__} is frozen")
        object.__setattr__(self, name, value)

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__struct_fields__)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._values() == self._values()

    def __hash__(self) -> int:
        return hash(self._values()) if self._frozen else id(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)!r}' for n in self.__struct_fields__)})"


def _wire_name(type_: type[Struct], name: str) -> str:
    known = type_._defaults.get(name)
    return known.name if known and known.name else name


def to_builtins(value: Any) -> Any:
    if isinstance(value, Struct):
        return {_wire_name(type(value), n): to_builtins(getattr(value, n)) for n in value.__struct_fields__}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {to_builtins(key): to_builtins(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return [to_builtins(item) for item in value]
    if isinstance(value, (list, tuple)):
        return [to_builtins(item) for item in value]
    return value


def convert(value: Any, type: Any = Any, *, strict: bool = True) -> Any:
    """`value` as `type`. Raises ValidationError."""
    made = _converted(value, type)
    if made is _NOTHING:
        raise ValidationError(f"Expected `{getattr(type, '__name__', type)}`, got `{value.__class__.__name__}`")
    return made


def _converted(value: Any, type_: Any) -> Any:
    """The converted value, or _NOTHING where it does not fit."""
    origin, args = typing.get_origin(type_), typing.get_args(type_)
    if type_ is Any or type_ is object:
        return value
    if type_ is None or type_ is types.NoneType:
        return None if value is None else _NOTHING
    if type_ is Raw:
        return Raw(_json.dumps(value, ensure_ascii=False).encode())
    if origin in (typing.Union, types.UnionType):
        return next((made for arg in args if (made := _converted(value, arg)) is not _NOTHING), _NOTHING)
    if origin is typing.Literal:
        return value if value in args else _NOTHING
    if origin in (list, set, frozenset, tuple) or type_ in (list, set, frozenset, tuple):
        return _sequence(value, origin or type_, args)
    if origin is dict or origin is Mapping or type_ is dict:
        return _dictionary(value, args or (Any, Any))
    if isinstance(type_, type) and issubclass(type_, Struct):
        return value if isinstance(value, type_) else _struct(value, type_)
    if isinstance(type_, type) and issubclass(type_, enum.Enum):
        return next((member for member in type_ if member.value == value), _NOTHING)
    if type_ is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, bool) and type_ is not bool:
        return _NOTHING
    return value if isinstance(type_, type) and isinstance(value, type_) else _NOTHING


def _sequence(value: Any, kind: Any, args: tuple[Any, ...]) -> Any:
    if not isinstance(value, (list, tuple, set, frozenset)):
        return _NOTHING
    if kind is tuple and args and args[-1] is not ...:
        if len(args) != len(value):
            return _NOTHING
        made = [_converted(item, arg) for item, arg in zip(value, args, strict=True)]
    else:
        made = [_converted(item, args[0] if args else Any) for item in value]
    return _NOTHING if any(item is _NOTHING for item in made) else kind(made)


def _dictionary(value: Any, args: tuple[Any, ...]) -> Any:
    if not isinstance(value, Mapping):
        return _NOTHING
    made = {_key(key, args[0]): _converted(item, args[1]) for key, item in value.items()}
    return _NOTHING if any(x is _NOTHING for pair in made.items() for x in pair) else made


def _key(key: Any, type_: Any) -> Any:
    """Keys of a JSON object are text; a dict with other keys gets them back."""
    if type_ is int and isinstance(key, str):
        try:
            return int(key)
        except ValueError:
            return _NOTHING
    return _converted(key, type_)


def _struct(value: Any, type_: type[Struct]) -> Any:
    if not isinstance(value, Mapping):
        return _NOTHING
    hints = typing.get_type_hints(type_)
    names = {_wire_name(type_, name): name for name in type_.__struct_fields__}
    if type_._strict and value.keys() - names.keys():
        return _NOTHING
    made = {names[k]: _converted(item, hints[names[k]]) for k, item in value.items() if k in names}
    lacking = any(n not in made and type_._default(n) is _NOTHING for n in type_.__struct_fields__)
    return _NOTHING if lacking or any(item is _NOTHING for item in made.values()) else type_(**made)


class Decoder:
    def __init__(self, type: Any = Any) -> None:
        self.type = type

    def decode(self, data: Any) -> Any:
        return json.decode(data, type=self.type)


class json:
    """`msgspec.json`."""

    Decoder = Decoder

    @staticmethod
    def decode(data: Any, *, type: Any = Any) -> Any:
        """Raises DecodeError and UnicodeDecodeError; NaN and Infinity are no JSON here either."""
        text = data if isinstance(data, str) else bytes(data).decode("utf-8")
        try:
            value = _json.loads(text, parse_constant=_no_number)
        except ValueError as error:
            raise DecodeError(f"JSON is malformed: {error}") from None
        return convert(value, type)

    @staticmethod
    def encode(value: Any, *, order: str | None = None) -> bytes:
        text = _json.dumps(to_builtins(value), ensure_ascii=False, separators=(",", ":"), sort_keys=order is not None)
        return text.encode()


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


class structs:
    """`msgspec.structs`."""

    @staticmethod
    def asdict(value: Struct) -> dict[str, Any]:
        return {name: getattr(value, name) for name in value.__struct_fields__}

    @staticmethod
    def replace(value: Struct, **changes: Any) -> Any:
        return type(value)(**(structs.asdict(value) | changes))
