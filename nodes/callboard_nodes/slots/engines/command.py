"""Any program, by a template that the node's owner has allowed: jobs name it and fill its gaps, nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from pydantic import Field, field_validator

from callboard_core.errors import BadRequest, Forbidden
from callboard_nodes.slots.engines.base import (
    Args,
    Heard,
    Program,
    Progressed,
    Trouble,
    Work,
    killed_by,
)

__all__ = ["Command", "CommandArgs", "CommandReader", "Template"]

_GAP = re.compile(r"\{(\w+)\}")
#: Gaps that we fill; all others are the job's ``values``.
OURS = frozenset({"main", "inputs", "frame", "output", "folder", "threads"})


class Template(Args):
    """A ``[[command]]`` table of the node's settings."""

    name: str = Field(pattern="^[a-z0-9][a-z0-9-]{0,62}$")
    argv: list[str] = Field(
        min_length=1, description="{main} {frame} {output} {inputs} {threads} and own gaps"
    )
    progress: str | None = Field(
        default=None, description="regular expression over the output; its first group is per cent"
    )
    licence_exit: list[int] = Field(default_factory=list, description="exit codes that mean: no licence")
    node_exit: list[int] = Field(default_factory=list, description="exit codes that are the node's fault")

    @field_validator("progress")
    @classmethod
    def _has_a_group(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"{value!r} is no regular expression: {error}") from None
        if groups < 1:
            raise ValueError(f"{value!r} has no group for the per cent")
        return value


class CommandArgs(Args):
    """What jobs may ask for."""

    name: str
    values: dict[str, str | int | float | bool] = Field(default_factory=dict, max_length=100)


class Command:
    """Programs of the node's own choice.

    Args:
        templates: by name; those that the node's settings allow.
    """

    name: ClassVar[str] = "command"
    args: ClassVar[type[Args]] = CommandArgs

    def __init__(self, templates: Mapping[str, Template]) -> None:
        self._templates = templates

    def programs(self, work: Work) -> Sequence[Program]:
        """Return one program for each frame, or one for single work.

        Raises:
            Forbidden: the node does not allow this command.
            BadRequest: a value is missing or not used.
        """
        if not isinstance(work.args, CommandArgs):
            raise BadRequest("command got the arguments of another engine")
        template = self._templates.get(work.args.name)
        if template is None:
            known = ", ".join(sorted(self._templates)) or "none"
            raise Forbidden(f"command {work.args.name!r} is not allowed on this node; it allows {known}")
        values = {key: str(value) for key, value in work.args.values.items()}
        _check_gaps(template, values)
        return [_program(template, work, values, frame) for frame in work.frames or (None,)]


def _check_gaps(template: Template, values: Mapping[str, str]) -> None:
    gaps = {gap for part in template.argv for gap in _GAP.findall(part)} - OURS
    if missing := sorted(gaps - values.keys()):
        raise BadRequest(f"values: command {template.name!r} needs {', '.join(missing)}")
    if unused := sorted(values.keys() - gaps):
        raise BadRequest(f"values: command {template.name!r} takes no {', '.join(unused)}")
    for key, value in values.items():
        if value.startswith("-"):
            raise BadRequest(f"values: {key}: {value!r} looks like an option; it must not begin with '-'")


def _program(template: Template, work: Work, values: Mapping[str, str], frame: int | None) -> Program:
    target = work.target(frame)
    known = {
        **values,
        "main": str(work.main or ""),
        "frame": "" if frame is None else str(frame),
        "output": str(target),
        "folder": str(work.folder),
        "threads": str(work.threads or 0),
    }
    argv: list[str] = []
    for part in template.argv:
        if part == "{inputs}":
            argv += [str(path) for path in work.inputs.values()]
        else:
            argv.append(_GAP.sub(lambda gap: known.get(gap[1], gap[0]), part))
    return Program(tuple(argv), CommandReader(template), {frame: target}, at_once=True)


class CommandReader:
    """Knows of any program only that it runs, and how far it is if the template says where that stands."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self._progress = re.compile(template.progress) if template.progress else None
        self._last = ""

    def line(self, text: str) -> Iterator[Heard]:
        """See :class:`~callboard_nodes.slots.engines.base.Reader`."""
        self._last = text.strip() or self._last
        if self._progress and (found := self._progress.search(text)):
            try:
                yield Progressed(min(1.0, max(0.0, float(found[1]) / 100)))
            except (TypeError, ValueError):
                return

    def ended(self, code: int) -> Trouble | None:
        """See :class:`~callboard_nodes.slots.engines.base.Reader`."""
        if code == 0:
            return None
        if code in self._template.licence_exit:
            return Trouble("licence", "licence", self._last or f"exit code {code}")
        if code in self._template.node_exit:
            return Trouble("node", "exit_code", self._last or f"exit code {code}")
        return killed_by(code, self._last)
