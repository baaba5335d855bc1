"""`[RECIPE] [-- KEY=VALUE ...]`, as the commands take it that run a recipe."""

from __future__ import annotations

from doctor.errors import BadInput


def split(command: str, arguments: tuple[str, ...]) -> tuple[str | None, dict[str, str]]:
    """The recipe and the overrides, told apart by the equals sign. Raises BadInput for anything else."""
    overrides: dict[str, str] = {}
    recipes: list[str] = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and key.isidentifier():
            overrides[key] = value
        elif argument.startswith("-"):
            raise BadInput(f"{command} does not know {argument}; overrides are written KEY=VALUE after --.")
        else:
            recipes.append(argument)
    if len(recipes) > 1:
        raise BadInput(f"{command} takes one recipe, not {len(recipes)}: {', '.join(recipes)}.")
    return (recipes[0] if recipes else None), overrides
