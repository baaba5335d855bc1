"""convert-encoding {file: p, encoding: gbk}: to UTF-8, only when every byte can be read and written back."""

from __future__ import annotations

from typing import Any

from fixes.change import Change, edit
from fixes.context import Args, Context
from fixes.errors import CannotEdit

LARGEST = 2 * 1024**3  # bytes; it is converted in memory


def claims(args: Args, context: Context) -> dict[tuple[str, str], Any]:
    return {(str(context.path(args["file"])), "(encoding)"): args["encoding"]}


def preview(args: Args, context: Context) -> Change | None:
    path = context.path(args["file"])
    shown, encoding = context.target.shown(path), str(args["encoding"])
    if path.is_file() and path.stat().st_size > LARGEST:
        raise CannotEdit(f"{shown} is too large to convert here; use: iconv -f {encoding} -t UTF-8.")
    old = context.require(path)
    try:
        old.decode("utf-8")
        return None
    except UnicodeDecodeError:
        pass
    try:
        text = old.decode(encoding)
        if text.encode(encoding) != old:
            raise UnicodeError("it does not convert back to the same bytes")
    except (LookupError, UnicodeError) as error:
        raise CannotEdit(f"{shown} cannot be read as {encoding} ({error}); find out its encoding first.") from None
    return edit("convert-encoding", shown, path, old, text.encode("utf-8"), claims(args, context))
