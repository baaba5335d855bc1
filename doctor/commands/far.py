"""`train --slurm` and `train --ray`: on other machines than this one."""

from __future__ import annotations

from typing import Any

from doctor.errors import BadInput


def run(**options: Any) -> int:
    if options["heal"]:
        raise BadInput("--heal mends the run of this machine; on a cluster the job is requeued and resumes.")
    if not (options["slurm"] or options["slurm_options"] or options["ray"]):
        lonely = "--print" if options["only_print"] else "--workers"
        raise BadInput(f"{lonely} belongs to --slurm or --ray; without them train runs on this machine.")
    if options["workers"] and not options["ray"]:
        raise BadInput("--workers belongs to --ray; with --slurm say the nodes in --slurm-options.")
    if not options["ray"]:
        from doctor.commands.submit import slurm

        return slurm(**options)
    if options["slurm"] or options["slurm_options"]:
        raise BadInput("Give --slurm or --ray, not both.")
    from doctor.commands.train_on_ray import ray

    return ray(**options)
