"""All example recipes of several releases against one release: what `check` says beside what the release's own parser says.

    python -m tests.stack.preflight.examples FOLDER=RELEASE … --env RELEASE=PREFIX … [--record FILE]

FOLDER holds `examples/`. For every file and every environment: `check` without running anything, then, for what is a
recipe, the release's own parser. Wrong is a recipe that the parser refuses and check does not (`missed`), and one that
check calls an error although the parser takes it (`false`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from doctor import target
from doctor.errors import BadInput
from doctor.examine import severity_of
from doctor.facts import Facts, UnknownFact
from doctor.findings import Severity
from doctor.probes import arguments, deepspeed, gpu, launch, llamafactory, packages, recipe, template
from doctor.recipe import recipe_kind

NO_RECIPE = "none"
CHILD = Path(__file__).with_name("parse_child.py")
RECORD = Path(__file__).with_name("examples.json")
PROBES = (recipe, llamafactory, packages, gpu, launch, deepspeed, template, arguments)
# What a recipe's words are judged by; the machine, the data and the model are other matters, and so are the libraries that
# only the model's loader asks for.
JUDGED = (recipe, template, arguments, deepspeed)
NOT_OF_THE_RECIPE = {"gpu-bf16-unsupported", "env-numactl-missing", "cfg-output-dir-not-empty", "model-path-not-found",
                     "attn-flash-missing", "quant-backend-missing"}  # fmt: skip


def files(folder: Path) -> list[Path]:
    """The YAML files of a folder's examples."""
    return sorted(folder.glob("examples/**/*.yaml"))


def checked(path: Path, workdir: Path, python: Path, new: bool) -> tuple[str, list[dict[str, str]]]:
    """The subcommand (`none`: it is no recipe) and what check says of the recipe: errors only."""
    os.environ["USE_V1"] = "1" if new else "0"
    found = target.find(str(path), str(workdir), str(python), offline=True)
    try:
        facts = Facts(recipe.collect(found, Facts()))
    except BadInput:
        return NO_RECIPE, []
    for probe in PROBES[1:]:
        facts = facts.merged(probe.collect(found, facts))
    errors = []
    for probe in JUDGED:
        for judgement in probe.JUDGEMENTS:
            try:
                findings = list(judgement(facts))
            except UnknownFact:
                continue
            errors += [
                {"cause": f.cause, "what": f.evidence[0].what[:200]}
                for f in findings
                if severity_of(f) is Severity.ERROR and f.cause not in NOT_OF_THE_RECIPE
            ]
    if facts.get("arguments.subcommand") == recipe_kind.OTHER:
        return NO_RECIPE, errors
    return "new" if new else recipe_kind.subcommand(facts["recipe.values"]), errors


def written_for_new(path: Path) -> bool:
    import yaml

    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    return isinstance(values, dict) and recipe_kind.written_for_new_launcher(values)


def asked_of(folders: list[str], python: Path) -> tuple[dict[str, dict[str, Any]], list[dict[str, str]]]:
    """What check says of each file, and what is to be asked of the parser. Recipes of the new launcher are asked twice
    where the release has one: as they are, and with USE_V1=1."""
    rows: dict[str, dict[str, Any]] = {}
    asked = []
    has_new = bool(list(python.parents[1].glob("lib/python*/site-packages/llamafactory/v1/config/arg_parser.py")))
    for given, _, origin in (word.partition("=") for word in folders):
        folder = Path(given).resolve()
        for path in files(folder):
            for new in (False, True) if has_new and written_for_new(path) else (False,):
                name = f"{origin}/{path.relative_to(folder / 'examples')}" + (" USE_V1=1" if new else "")
                subcommand, errors = checked(path, folder, python, new)
                rows[name] = {"subcommand": subcommand, "check": errors}
                if subcommand != NO_RECIPE:
                    asked.append({"path": str(path), "workdir": str(folder), "subcommand": subcommand, "name": name})
    return rows, asked


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="FOLDER=RELEASE")
    parser.add_argument("--env", action="append", required=True, metavar="RELEASE=PREFIX")
    parser.add_argument("--record", type=Path, default=RECORD)
    given = parser.parse_args()
    record: dict[str, Any] = {}
    for release, _, prefix in (word.partition("=") for word in given.env):
        python = Path(prefix) / "bin" / "python"
        rows, asked = asked_of(given.folders, python)
        around = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
        lines = "\n".join(json.dumps(one) for one in asked)
        with (Path("/tmp") / f"examples-{os.getpid()}-{release}.log").open("w") as log:
            done = subprocess.run(
                [str(python), str(CHILD)], input=lines, stdout=subprocess.PIPE, stderr=log, text=True, env=around
            )
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        if len(answers) < len(asked):  # an environment that cannot import takes everything, as it seems
            raise SystemExit(f"{release}: the parser answered {len(answers)} of {len(asked)} questions, see {log.name}")
        for told in answers:
            rows[told["name"]]["parser"] = told["refusal"]
        for row in rows.values():
            row["agree"] = bool(row["check"]) == bool(row.get("parser"))
        record[release] = {
            "files": len(rows),
            "no_recipe": sum(r["subcommand"] == NO_RECIPE and not r["check"] for r in rows.values()),
            "accepted_by_both": sum(
                r["agree"] and not r["check"] and r["subcommand"] != NO_RECIPE for r in rows.values()
            ),
            "refused_by_both": sum(bool(r["check"] and r.get("parser")) for r in rows.values()),
            "false": {n: r for n, r in rows.items() if r["check"] and not r.get("parser")},
            "missed": {n: r for n, r in rows.items() if not r["check"] and r.get("parser")},
            "refused": {n: r["parser"] for n, r in rows.items() if r["check"] and r.get("parser")},
        }
        print(release, {k: v if isinstance(v, int) else len(v) for k, v in record[release].items()}, file=sys.stderr)
    given.record.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
