"""An AsyncAPI 3.0 document of what a node sends and receives."""

from __future__ import annotations

import json
from typing import Any

from callboard_core.messages import Payload
from callboard_core.reference.channels import CHANNELS, EXAMPLES, PARAMETERS, Channel
from callboard_core.reference.schemas import all_schemas
from callboard_core.topics import Kind

__all__ = ["document"]

_SCHEMAS = "#/components/schemas/"
_MESSAGES = "#/components/messages/"
_STREAM = "Bytes"

_CARRIED = [model for channel in CHANNELS for model in channel.payloads]


def document() -> dict[str, Any]:
    """The document, from a node's point of view: what it sends and what it receives."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Callboard node",
            "version": "1.0.0",
            "description": "What a node of Callboard says and hears over MQTT. Any other MQTT client can do the same.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"board": _server()},
        "channels": {channel.id: _channel(channel) for channel in CHANNELS},
        "operations": {channel.id: _operation(channel) for channel in CHANNELS},
        "components": {
            "messages": _messages(),
            "schemas": all_schemas(_CARRIED, _SCHEMAS + "{model}"),
        },
    }


def _server() -> dict[str, Any]:
    return {
        "host": "{host}:{port}",
        "protocol": "mqtt",
        "protocolVersion": "3.1.1",
        "description": "The board's broker.",
        "variables": {"host": {"default": "127.0.0.1"}, "port": {"default": "1883"}},
    }


def _channel(channel: Channel) -> dict[str, Any]:
    names = _message_names(channel)
    return {
        "address": channel.topic,
        "description": channel.summary,
        "parameters": {
            name: _parameter(name, text)
            for name, text in PARAMETERS.items()
            if f"{{{name}}}" in channel.topic
        },
        "messages": {name: {"$ref": _MESSAGES + name} for name in names},
    }


def _parameter(name: str, text: str) -> dict[str, Any]:
    return {"description": text, **({"enum": [kind.value for kind in Kind]} if name == "kind" else {})}


def _operation(channel: Channel) -> dict[str, Any]:
    reference = f"#/channels/{channel.id}"
    operation: dict[str, Any] = {
        "action": "send" if channel.sender == "node" else "receive",
        "channel": {"$ref": reference},
        "summary": channel.summary,
        "messages": [{"$ref": f"{reference}/messages/{name}"} for name in _message_names(channel)],
        "bindings": {"mqtt": {"qos": channel.qos, "retain": channel.retained, "bindingVersion": "0.2.0"}},
    }
    if channel.id == "command":
        operation["reply"] = {
            "address": {"location": "$message.payload#/reply_to"},
            "channel": {"$ref": "#/channels/reply"},
        }
    return operation


def _message_names(channel: Channel) -> list[str]:
    return [model.__name__ for model in channel.payloads] or [_STREAM]


def _messages() -> dict[str, Any]:
    return {
        **{model.__name__: _message(model) for model in _CARRIED},
        _STREAM: {
            "contentType": "application/octet-stream",
            "payload": {"type": "string", "format": "binary"},
        },
    }


def _message(model: type[Payload]) -> dict[str, Any]:
    return {
        "payload": {"$ref": _SCHEMAS + model.__name__},
        "examples": [{"payload": json.loads(EXAMPLES[model].encode())}],
    }
