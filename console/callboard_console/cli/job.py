"""``callboard job …``: submit, look at and steer jobs of the farm."""

from __future__ import annotations

import typer

from callboard_console.cli.job_control import cancel, change, delete, pause, priority, requeue, resume
from callboard_console.cli.job_look import download, frames, log, ls, why
from callboard_console.cli.job_submit import submit, types
from callboard_console.cli.job_watch import watch

__all__ = ["job"]

job = typer.Typer(
    name="job",
    help="Submit render jobs, look at them and steer them.\n\nExample: callboard job submit shot.blend --frames 1-240",
    no_args_is_help=True,
    rich_markup_mode=None,
)

for _verb in (
    submit, ls, watch, why, frames, log, download, pause, resume, cancel, requeue, priority, change, delete, types
):  # fmt: skip
    job.command()(_verb)
