"""All example recipes of several releases against one release: what `check` says beside what the release's own parser says.

    python -m tests.stack.preflight.examples FOLDER=RELEASE … --env RELEASE=PREFIX … [--record FILE]

FOLDER holds `examples/`. For every file and every environment: `check` without running anything, then, for what is a
recipe, the release's own parser. Wrong is a recipe that the parser refuses and check does not (`missed`), one that check
calls an error although the parser takes it (`false`), and one that both refuse for different reasons (`otherwise`).
"""

from __future__ import annotations

import argparse
import json
import os
import re
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
                     "attn-flash-missing", "quant-backend-missing", "peft-adapter-path-wrong"}  # fmt: skip


def files(folder: Path) -> list[Path]:
    """The YAML files of a folder's examples."""
    return sorted(folder.glob("examples/**/*.yaml"))


def checked(path: Path, workdir: Path, python: Path, new: bool) -> tuple[str, list[dict[str, str]]]:
    """The subcommand (`none`: it is no recipe) and what check says of the recipe: errors only."""
    os.environ["USE_V1"] = "1" if new else "0"
    os.environ["FORCE_TORCHRUN"] = "1"  # as the parser is asked: by torchrun with one process
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


def same_reason(said: str, errors: list[dict[str, str]]) -> bool:
    """Whether one of check's errors is what the parser said. It stops at its first refusal, check goes on."""
    words = [error["what"] for error in errors]
    if unused := _UNUSED.search(said):
        keys = {part.strip(" '\"") for part in unused[1].split(",")}
        told = {
            word.split('"')[1] for word, error in zip(words, errors, strict=True) if error["cause"] == "cfg-unknown-key"
        }
        return keys == told
    if package := _PACKAGE.search(said):
        name = package[1] or package[2]
        return any(name.lower().replace("_", "-") in word.lower().replace("_", "-") for word in words)
    if template := re.search(r"Template (\S+) does not exist|Quantization method (\S+) is", said):
        return any(f'"{template[1] or template[2]}"' in word for word in words)
    for phrase, cause, what in _SAID:
        if phrase in said:
            return any(error["cause"] == cause and what in error["what"] for error in errors)
    message = " ".join(said.partition(": ")[2].split())[:60]
    return any(message in word for word in words)


def others(release: str, rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Of the recipes of each other release: how many are taken, and what is said of the rest, how often."""
    found: dict[str, Any] = {}
    for name, row in rows.items():
        origin = name.partition("/")[0]
        if origin == release or row["subcommand"] == NO_RECIPE:
            continue
        pair = found.setdefault(origin, {"accepted": 0, "refused": 0, "for": {}})
        pair["refused" if row.get("parser") else "accepted"] += 1
        for error in row["check"]:
            what = (
                error["what"].partition(" is no argument")[0] if error["cause"] == "cfg-unknown-key" else error["what"]
            )
            reason = f"{error['cause']}: {what[:80]}"
            pair["for"][reason] = pair["for"].get(reason, 0) + 1
    return found


# Words of the parser, and the cause and words that check has for the same.
_SAID = (
    ("existing deepspeed config", "ds-config-missing", ""),
    ("Invalid fine-tuning method", "cfg-invalid-choice", "finetuning_type"),
    ("Unsupported `flash_attn`", "cfg-invalid-choice", "flash_attn"),
    ("`model_name_or_path`", "cfg-other-launcher", "keys of the recipe are those of the new launcher"),
    ("required positional argument: 'model_name_or_path'", "cfg-other-launcher", "keys of the recipe are those of"),
)
_UNUSED = re.compile(r"Some keys are not used by the HfArgumentParser: \[([^\]]*)\]")
_PACKAGE = re.compile(r"The '([\w-]+)[^']*' distribution|No module named '([\w-]+)")


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
        both = {n: r for n, r in rows.items() if r["check"] and r.get("parser")}
        record[release] = {
            "files": len(rows),
            "no_recipe": sum(r["subcommand"] == NO_RECIPE and not r["check"] for r in rows.values()),
            "accepted_by_both": sum(
                r["agree"] and not r["check"] and r["subcommand"] != NO_RECIPE for r in rows.values()
            ),
            "refused_by_both": len(both),
            "false": {n: r for n, r in rows.items() if r["check"] and not r.get("parser")},
            "missed": {n: r for n, r in rows.items() if not r["check"] and r.get("parser")},
            "otherwise": {n: r for n, r in both.items() if not same_reason(r["parser"], r["check"])},
            "refused": {n: r["parser"][:160] for n, r in both.items() if n.startswith(f"{release}/")},
            "of_other_releases": others(release, rows),
        }
        print(release, {k: v if isinstance(v, int) else len(v) for k, v in record[release].items()}, file=sys.stderr)
        given.record.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
