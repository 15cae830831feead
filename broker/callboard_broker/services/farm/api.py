"""The farm's JSON API: ``{"item": …, "action": …, "filters": {…}, "values": {…}}``, the same over MQTT and HTTP.

One request is one transaction: what matches is looked up and changed with nobody in between, all of it or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import ConfigDict, Field, JsonValue

from callboard_broker.services.farm.items.base import Item, check_filters, check_values, pick
from callboard_broker.services.farm.items.clients import Clients, Slots
from callboard_broker.services.farm.items.frames import Frames
from callboard_broker.services.farm.items.jobs import Jobs
from callboard_broker.services.farm.items.places import Places
from callboard_broker.services.farm.items.settings import Settings
from callboard_broker.services.farm.items.tasks import Tasks
from callboard_broker.services.farm.service import Farm
from callboard_core.errors import BadRequest, Forbidden
from callboard_core.messages import JsonObject, Payload, read_args
from callboard_core.settings import Farm as FarmSettings

__all__ = ["ApiRequest", "FarmApi"]

Action = Literal["create", "read", "update", "delete"]
_ACTIONS: tuple[Action, ...] = get_args(Action)


class ApiRequest(Payload):
    """One request."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    item: str = Field(
        description="client, slot, project (or show), sequence, shot, job, task (or order), frame, setting"
    )
    action: str = Field(description="create, read, update or delete")
    filters: JsonObject | None = Field(default=None, description="field → value, list of values, or a test")
    values: JsonObject | None = Field(default=None, description="field → new value")
    fields: list[str] | None = Field(default=None, description="for read: only these")
    limit: int = Field(default=1000, ge=0, le=100_000, description="for read: rows at most")
    offset: int = Field(default=0, ge=0, description="for read: rows to skip")


class FarmApi:
    """Answers requests; from any thread but the farm's own.

    Args:
        farm: what is asked about.
        configured: its settings without what was changed while it ran.
    """

    def __init__(self, farm: Farm, configured: FarmSettings) -> None:
        self._farm = farm
        items: list[Item] = [
            Clients(farm),
            Slots(farm),
            Places(farm, "project", ("projects", "show", "shows")),
            Places(farm, "sequence", ("sequences",)),
            Places(farm, "shot", ("shots",)),
            Jobs(farm),
            Tasks(farm),
            Frames(farm),
            Settings(farm, configured),
        ]
        self._items = {item.name: item for item in items}
        self._aliases = {alias: item.name for item in items for alias in item.aliases}

    def describe(self) -> dict[str, JsonValue]:
        """Return every item with its fields and what can be done to it."""
        return {item.name: _described(item) for item in self._items.values()}

    def handle(self, request: Mapping[str, Any], *, who: str, may_write: bool = True) -> dict[str, Any]:
        """Answer one request.

        Args:
            request: as :class:`ApiRequest` says.
            who: the user; owner of what is created without one.
            may_write: False for those who may only read.

        Returns:
            item, action, count (how many matched) and items: for read the rows, for create the new one.

        Raises:
            BadRequest: an item, action or field is unknown, or a value is wrong; the message tells the known ones.
            Forbidden: it would change something.
            Conflict: it cannot be done to one of those that match; nothing was changed.
            NotFound: something that a value names is not there.
        """
        asked = _parse(request)
        item, action = self._item(asked.item), _action(asked.action)
        if action != "read" and not may_write:
            raise Forbidden(f"to {action} a {item.name} takes the role operator")
        count, rows = getattr(self, f"_{action}")(item, asked, who)
        return {"item": item.name, "action": action, "count": count, "items": rows}

    def _item(self, name: str) -> Item:
        found = self._items.get(self._aliases.get(name, name))
        if found is None:
            raise BadRequest(f"item: {name!r} is unknown; there are {', '.join(self._items)}")
        return found

    def _read(self, item: Item, asked: ApiRequest, who: str) -> tuple[int, list[dict[str, Any]]]:
        del who
        if asked.values:
            raise BadRequest("values: nothing is written by read; use filters")
        for name in asked.fields or ():
            if name not in item.fields:
                raise BadRequest(f"fields: {name!r} is unknown; a {item.name} has {', '.join(item.fields)}")
        filters = asked.filters or {}
        check_filters(item, filters)
        count, rows = 0, []
        for row in pick(item.rows(filters), filters):
            if asked.offset <= count < asked.offset + asked.limit:
                rows.append(row)
            count += 1
        told = asked.fields or item.fields
        return count, [{name: row[name] for name in told} for row in item.complete(rows)]

    def _create(self, item: Item, asked: ApiRequest, who: str) -> tuple[int, list[dict[str, Any]]]:
        if asked.filters:
            raise BadRequest("filters: nothing is looked up by create; use values")
        values = check_values(item, "create", item.creates, asked.values or {})
        return 1, [item.create(values, who)]

    def _update(self, item: Item, asked: ApiRequest, who: str) -> tuple[int, list[dict[str, Any]]]:
        del who
        values = check_values(item, "update", item.updates, asked.values or {})
        if not asked.values:
            raise BadRequest("values: missing; say what to change")
        return self._change(item, asked, lambda rows: item.update(rows, values))

    def _delete(self, item: Item, asked: ApiRequest, who: str) -> tuple[int, list[dict[str, Any]]]:
        del who
        values = check_values(item, "delete", item.deletes, asked.values or {})
        return self._change(item, asked, lambda rows: item.delete(rows, values))

    def _change(self, item: Item, asked: ApiRequest, do: Any) -> tuple[int, list[dict[str, Any]]]:
        """Look up and change as one piece of the farm's work."""
        if asked.filters is None:
            raise BadRequest(f"filters: missing; say which {item.name}s, or {{}} for all")
        filters = asked.filters
        check_filters(item, filters)

        def work() -> int:
            found = list(pick(item.rows(filters), filters))
            if found:
                do(found)
            return len(found)

        return self._farm.do(work), []


def _parse(request: Mapping[str, Any]) -> ApiRequest:
    unknown = next((key for key in request if key not in ApiRequest.model_fields), None)
    if unknown is not None:
        hint = "; did you mean 'filters'?" if unknown == "filter" else ""
        raise BadRequest(f"{unknown}: unknown; a request has {', '.join(ApiRequest.model_fields)}{hint}")
    return read_args(ApiRequest, request)


def _action(name: str) -> Action:
    for action in _ACTIONS:
        if action == name:
            return action
    raise BadRequest(f"action: {name!r} is unknown; there are {', '.join(_ACTIONS)}")


def _described(item: Item) -> dict[str, JsonValue]:
    models = {"create": item.creates, "update": item.updates, "delete": item.deletes}
    return {
        "aliases": list(item.aliases),
        "fields": dict(item.fields),
        "needs": list(item.needs),
        **{
            action: {"cannot": model} if isinstance(model, str) else model.model_json_schema()
            for action, model in models.items()
        },
    }
