"""install {packages: [requirement], reinstall: false}: into the target, resolved together with all other packages.

`reinstall: true` puts a damaged package again although its version is right. Carried out by fixes.swap.
"""

from __future__ import annotations

from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from doctor import redact
from fixes.change import Change
from fixes.context import Args, Context
from fixes.errors import Refused


def claims(args: Args, context: Context) -> dict[tuple[str, str], Any]:
    found: dict[tuple[str, str], Any] = {}
    for text in args["packages"]:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            raise Refused(f"{text!r} is not a package requirement.") from None
        found["package", canonicalize_name(requirement.name)] = requirement.url or str(requirement.specifier)
    return found


def preview(args: Args, context: Context) -> Change | None:
    names = claims(args, context)
    listed = redact.text(", ".join(args["packages"]))
    return Change("install", str(context.target.prefix), f"install {listed}", claims=names)
