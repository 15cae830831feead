"""The page on topics and payloads, as Markdown."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Sequence
from typing import Any

from callboard_core.errors import ERRORS
from callboard_core.messages import CARD_LIMIT, MESSAGE_LIMIT, Payload
from callboard_core.reference.channels import CHANNELS, EXAMPLES, FILTERS, PARAMETERS, RENDERING, Channel
from callboard_core.reference.schemas import file_name, key_type, schema_of, title
from callboard_core.topics import Kind

__all__ = ["table", "topics_page"]

_INTRODUCTION = f"""\
# Topics and payloads

Made from the code by `make docs`; a test compares the two.

Payloads are UTF-8 JSON objects. Unknown keys are ignored; a required one that is missing, or a wrong
one, makes the message refused, counted and shown, and the reason names the key. Any other key may be missing.
Times are Unix seconds by the sender's clock. NaN and infinity are refused. A card is
at most {CARD_LIMIT // 1024} KiB and any message at most {MESSAGE_LIMIT // 1024} KiB unless the board sets other limits.

Ids (site, node, name) are 1 to 63 characters of a-z, 0-9 and `-`, and do not begin with `-`.
A kind is one of {", ".join(f"`{kind}`" for kind in Kind)}.

The same as data: [`asyncapi.json`](asyncapi.json) (AsyncAPI 3.0) and a JSON Schema for each payload below.
"""


def topics_page() -> str:
    """The whole page."""
    return "\n".join(
        [
            _INTRODUCTION,
            "## Topics\n",
            table(("Topic", "Sent by", "Retained", "QoS", "Payload", ""), map(_channel_row, CHANNELS)),
            table(
                ("In a topic", "stands for"), ((f"`{{{name}}}`", text) for name, text in PARAMETERS.items())
            ),
            "## Useful filters\n",
            table(("Filter", "gives"), ((f"`{topic}`", text) for topic, text in FILTERS.items())),
            "## Rendering\n",
            "Slots and the board talk in states and calls like everything else; this is what those hold.\n",
            table(("Topic", "In it", "Payload", ""), map(_rendering_row, RENDERING)),
            "## Payloads\n",
            *(_payload_section(model) for model in EXAMPLES),
            "## Error codes\n",
            "The same over MQTT, HTTP, the command line and in Python.\n",
            table(("Code", "HTTP", "Means"), _error_rows()),
        ]
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with an empty line after it."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _channel_row(channel: Channel) -> tuple[str, ...]:
    payloads = ", ".join(_link(model) for model in channel.payloads) or "raw bytes"
    retained = "yes" if channel.retained else "no"
    return f"`{channel.topic}`", channel.sender, retained, str(channel.qos), payloads, channel.summary


def _rendering_row(row: tuple[str, str, type[Payload], str]) -> tuple[str, ...]:
    topic, place, payload, summary = row
    return f"`{topic}`", place, _link(payload), summary


def _link(model: type[Payload]) -> str:
    return f"[{title(model)}](#{title(model).lower()})"


def _payload_section(model: type[Payload]) -> str:
    schema, example = schema_of(model), json.loads(EXAMPLES[model].encode())
    parts = schema.get("$defs", {})
    return "\n".join(
        [
            f"### {title(model)}\n",
            inspect.cleandoc(model.__doc__ or "").replace("``", "`") + "\n",
            f"```json\n{json.dumps(example, ensure_ascii=False)}\n```\n",
            table(("Key", "Holds", ""), _key_rows(schema, parts)),
            f"JSON Schema: [`{file_name(model)}`](schemas/{file_name(model)})\n",
        ]
    )


def _key_rows(schema: dict[str, Any], parts: dict[str, Any]) -> list[tuple[str, str, str]]:
    required = schema.get("required", [])
    return [
        (
            f"`{key}`{' (required)' if key in required else ''}",
            key_type(held, parts),
            held.get("description", ""),
        )
        for key, held in schema["properties"].items()
    ]


def _error_rows() -> list[tuple[str, str, str]]:
    return [
        (f"`{code}`", str(kind.http_status), inspect.cleandoc(kind.__doc__ or "").splitlines()[0])
        for code, kind in ERRORS.items()
    ]
