"""The commands: parse, call, render. No logic lives here, and each command imports what it needs when it runs."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import click

from doctor import __version__
from doctor.errors import BadInput, Refused, UnreadableRecipe
from doctor.exit_codes import ExitCode

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say where training starts and with which python."""
    for option in (
        click.option("--workdir", metavar="DIR", help="Where training starts; the current directory by default."),
        click.option("--python", metavar="PATH", help="The interpreter that trains."),
        click.option("--env", metavar="NAME", help="The conda environment or venv that trains."),
        click.option("--offline", is_flag=True, help="Ask nothing of the network."),
    ):
        command = option(command)
    return command


def target_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say what is examined."""
    return click.argument("recipe", required=False)(place_options(command))


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say what is run."""
    return click.argument("arguments", nargs=-1, metavar="[RECIPE] [-- KEY=VALUE ...]")(place_options(command))


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say how the result is shown."""
    for option in (
        click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True),
        click.option("--lang", type=click.Choice(["en", "zh"]), help="Language of texts; the locale's by default."),
    ):
        command = option(command)
    return command


def _ids(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (value or "").split(",") if part.strip())


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, prog_name="skyt1-doctor")
def cli() -> None:
    """Environment doctor for fine-tuning with LLaMA-Factory and DeepSpeed.

    check says what will go wrong, fix mends it and can take it back, train launches and watches the run,
    diagnose names the cause of a failed one.
    """


@cli.command()
@target_options
@output_options
@click.option("--deep", is_flag=True, help="Also ask the target's own code: its parser, its tokenizer (slower).")
@click.option("--from", "captured", metavar="FACTS", help="Judge captured facts instead of this machine.")
@click.option("--save-facts", metavar="FILE", help="Write the facts, redacted, for --from elsewhere.")
@click.option("--only", callback=_ids, metavar="ID,..", help="Only these causes or probes.")
@click.option("--skip", callback=_ids, metavar="ID,..", help="Not these causes or probes.")
@click.option("--budget", type=click.FloatRange(min=0.05), metavar="SECONDS", help="5 by default, 300 with --deep.")
@click.option("--why", is_flag=True, help="Explain each finding.")
@click.option("--slurm", is_flag=True, help="On every node of this Slurm allocation, or of a short one of its own.")
@click.option("--slurm-options", metavar="OPTIONS", help="Options of that short allocation: '-N 3 -p main'.")
@click.option("--ray", metavar="ADDRESS", help="On every node of this Ray cluster.")
def check(**options: Any) -> int:
    """Say what stands between RECIPE and a training run."""
    from doctor.commands.check import run

    return run(**options)


@cli.command()
@click.argument("logs", nargs=-1, metavar="[LOG ... | -]")
@output_options
@click.option("--workdir", metavar="DIR", help="Judge with the facts of the target of this directory.")
def diagnose(**options: Any) -> int:
    """Name the cause of a failed run from its log."""
    from doctor.commands.diagnose import run

    return run(**options)


@cli.command()
@target_options
@output_options
@click.option("--apply", "apply_", is_flag=True, help="Apply the plan; without it nothing is changed.")
@click.option("--yes", is_flag=True, help="Consent to every fix of class review.")
@click.option("--only", callback=_ids, metavar="CAUSE_OR_FIX,..", help="Only these causes or fixes.")
@click.option("--model", metavar="PATH", help="The model directory that fixes may name.")
@click.option("--dataset", metavar="PATH", help="The data file that fixes may register.")
@click.option("--from-log", metavar="LOG", help="Plan the fixes of the causes that this log shows.")
@click.option("--undo", metavar="ID|last", help="Take a fix back.")
@click.option("--dry-run", is_flag=True, help="With --undo: only say what it would do.")
@click.option("--history", is_flag=True, help="List what was changed.")
@click.option("--stack", metavar="NAME", help="Bring the packages to a set that was proven by a training run.")
@click.option("--new", "new_place", metavar="DIR", help="With --stack: make a new environment there instead.")
@click.option("--plan", "plan_file", metavar="FILE", help="Apply a saved plan, if the world has not changed since.")
@click.option("--save-plan", metavar="FILE", help="Write the plan for --plan.")
@click.option("--force", is_flag=True, help="With --undo: also over files edited since.")
@click.option("--budget", type=click.FloatRange(min=0.05), default=5.0, show_default=True, metavar="SECONDS")
def fix(**options: Any) -> int:
    """Show the plan that mends what `check` finds; --apply carries it out."""
    from doctor.commands.fix import run

    return run(**options)


@cli.command(context_settings={"ignore_unknown_options": True})
@run_options
@click.option("--force", is_flag=True, help="Start although findings or the rehearsal say that it will fail.")
@click.option("--no-rehearse", is_flag=True, help="Do not run the recipe at toy scale first.")
@click.option(
    "--heal", type=click.IntRange(min=0), default=0, metavar="N", help="After a failure mend and resume, N times."
)
@click.option("--lang", type=click.Choice(["en", "zh"]))
@click.option("--budget", type=click.FloatRange(min=0.05), default=5.0, show_default=True, metavar="SECONDS")
@click.option("--slurm", is_flag=True, help="Write the job script of the recipe and submit it.")
@click.option("--slurm-options", metavar="OPTIONS", help="Options of sbatch: '-N 3 --gpus-per-node=8 --time=1-0'.")
@click.option("--ray", metavar="ADDRESS", help="On this Ray cluster.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="With --ray: how many; its GPUs by default.")
@click.option("--print", "only_print", is_flag=True, help="With --slurm or --ray: only show what would be run.")
def train(**options: Any) -> int:
    """Pass the gate, rehearse, launch `llamafactory-cli train`, watch it, heal or diagnose it if it fails."""
    if any(options[name] for name in ("slurm", "slurm_options", "ray", "workers", "only_print")):
        from doctor.commands.far import run as run_far

        return run_far(**options)
    for name in ("slurm", "slurm_options", "ray", "workers", "only_print"):
        del options[name]
    from doctor.commands.train import run

    return run(**options)


@cli.command()
@click.argument("place", metavar="LOG_OR_DIR")
@click.option("--workdir", metavar="DIR", help="Where the training runs; the current directory by default.")
@click.option("--lang", type=click.Choice(["en", "zh"]), help="Language of texts; the locale's by default.")
def watch(**options: Any) -> int:
    """Join a run started by hand: its log, its run or output directory. Ends with the diagnosis if the run fails."""
    from doctor.commands.watch import run

    return run(**options)


@cli.command()
@run_options
@output_options
@click.option("--again", is_flag=True, help="Also when nothing has changed since a rehearsal that passed.")
@click.option("--seconds", type=click.FloatRange(min=1), default=1200.0, show_default=True, help="At most this long.")
def rehearse(**options: Any) -> int:
    """Run RECIPE for real at toy scale: a small random model, a sample of the data, two steps, save, resume, load."""
    from doctor.commands.rehearse import run

    return run(**options)


@cli.command()
@target_options
@output_options
@click.option("--gpus", "cards", metavar="8x80GB", help="GPUs of each node; this machine's by default.")
@click.option("--nodes", type=click.IntRange(min=1), metavar="N", help="Nodes; those of the launch by default.")
@click.option("--host-memory", metavar="1TB", help="Memory of each node; this machine's by default.")
@click.option(
    "--step-seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="S",
    help="Seconds of one step, for time and cost; by default those of a recorded run.",
)
@click.option("--gpu-hour", type=click.FloatRange(min=0), metavar="PRICE", help="Price of one GPU for an hour.")
@click.option("--from", "captured", metavar="FACTS", help="Estimate for captured facts instead of this machine.")
def estimate(**options: Any) -> int:
    """Say what RECIPE needs of GPUs, host and disk, and whether it fits.

    Exit code 0: it fits, or that cannot be told (the verdict says so); 1: it does not fit.
    """
    from doctor.commands.estimate import run

    return run(**options)


@cli.command()
@click.argument("cause")
@output_options
def explain(**options: Any) -> int:
    """Explain one CAUSE: why, in which versions, what heals it and what does not."""
    from doctor.commands.knowledge import explain as run

    return run(**options)


@cli.command()
@click.argument("text", required=False)
@output_options
def causes(**options: Any) -> int:
    """List the causes that mention TEXT."""
    from doctor.commands.knowledge import causes as run

    return run(**options)


@cli.command()
@click.argument("run", required=False)
@click.option("--workdir", metavar="DIR", help="Where training starts; the current directory by default.")
@click.option("--html", metavar="FILE", help="Write one self-contained page.")
@click.option("--markdown", is_flag=False, flag_value="-", metavar="[FILE]", help="Write Markdown for an issue.")
@click.option("--lang", type=click.Choice(["en", "zh"]), help="Language of texts; the locale's by default.")
def report(**options: Any) -> int:
    """Show how a RUN went: the last one of the workdir, or the one named, as a page or as Markdown."""
    from doctor.commands.report import run

    return run(**options)


def _fail(message: str, code: ExitCode, arguments: list[str], recipe: UnreadableRecipe | None = None) -> int:
    """One sentence on stderr, and the document on stdout where JSON was asked for. A recipe at fault is a finding, too."""
    from doctor import redact

    message = redact.text(message)
    wants_json = "--format=json" in arguments or ("--format" in arguments and "json" in arguments)
    if wants_json:
        import json

        command = next((word for word in arguments if not word.startswith("-")), "")
        findings = [_finding_of(recipe, message)] if recipe else []
        document = {"schema_version": 1, "command": command, "version": __version__, "healthy": False}
        document["findings"] = findings
        print(
            json.dumps({**document, "probes": [], "unrecognised": None, "error": message}, ensure_ascii=False, indent=1)
        )
    print(f"skyt1-doctor: {message}", file=sys.stderr)
    return code


def _finding_of(recipe: UnreadableRecipe, message: str) -> dict[str, Any]:
    from doctor.findings import Evidence, Finding
    from doctor.report.document import describe

    return describe(Finding(recipe.cause, (Evidence(message, recipe.where),), source="probe:recipe"))


def _kept_traceback(error: Exception) -> str:
    """Say that the doctor itself failed and where the traceback was kept, masked, for a report."""
    import tempfile
    import traceback

    from doctor import redact

    told = f"an error of its own: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="skyt1-doctor-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            file.write(redact.text("".join(traceback.format_exception(error))))
    except OSError:
        return f"{told}; set TMPDIR to a writable directory to keep its traceback."
    return f"{told}; please report it with {file.name}."


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        return cli.main(arguments, prog_name="skyt1-doctor", standalone_mode=False) or ExitCode.OK
    except BadInput as error:
        return _fail(str(error), ExitCode.BAD_INPUT, arguments, error if isinstance(error, UnreadableRecipe) else None)
    except Refused as error:
        return _fail(str(error), ExitCode.REFUSED, arguments)
    except click.ClickException as error:
        return _fail(error.format_message(), ExitCode.BAD_INPUT, arguments)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted.", ExitCode.INTERRUPTED, arguments)
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Exception as error:  # noqa: BLE001 - users get a sentence and a file to send, never a traceback
        return _fail(_kept_traceback(error), ExitCode.BAD_INPUT, arguments)


def main() -> None:
    """The console script. Leaves at once even when a probe's thread still hangs in a system call."""
    for stream in (sys.stdout, sys.stderr):  # Chinese text must not die on a terminal that claims ASCII
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    code = run(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    if threading.active_count() > 1:
        os._exit(code)
    sys.exit(code)
