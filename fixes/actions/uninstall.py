"""uninstall {packages: [name]}: from the target; its files are kept in the journal. Carried out by fixes.swap."""

from __future__ import annotations

from typing import Any

from packaging.utils import canonicalize_name

from fixes.change import Change
from fixes.context import Args, Context
from fixes.packages import installed


def claims(args: Args, context: Context) -> dict[tuple[str, str], Any]:
    return {("package", canonicalize_name(name)): "(removed)" for name in args["packages"]}


def preview(args: Args, context: Context) -> Change | None:
    there = installed(context.target)
    names = [n for n in args["packages"] if canonicalize_name(n) in there]
    if not names:
        return None
    return Change("uninstall", str(context.target.prefix), "remove " + ", ".join(names), claims=claims(args, context))
