"""What the TOML tables of all drivers have in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from callboard_core.cards import Range
from callboard_core.errors import BadRequest
from callboard_core.topics import check_id

__all__ = ["BusName", "Common", "I2CTable", "OneQuantity", "SensorTable", "between"]


def _id(value: str) -> str:
    try:
        return check_id(value)
    except BadRequest as error:
        raise ValueError(error.message) from None


#: ``"board"`` for the board's own bus, a number N for ``/dev/i2c-N``, ``"simulated"`` for no hardware at all.
BusName = str | int


def between(low: int, high: int) -> AfterValidator:
    """Return the check of an I²C address; people write these in hexadecimal."""

    def check(value: int) -> int:
        if low <= value <= high:
            return value
        raise ValueError(f"{value:#04x} is not one of {low:#04x} to {high:#04x}")

    return AfterValidator(check)


class Common(BaseModel):
    """Keys that every table can have."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    driver: str
    name: Annotated[str, AfterValidator(_id)] | None = None
    label: str | None = None
    description: str | None = None
    tags: list[str] = Field(default_factory=list)

    def card(self, suffix: str = "", **more: Any) -> dict[str, Any]:
        """Return the settings of the card of one of the table's things.

        Args:
            suffix: which of several quantities this is; added to the name and the label.
            more: settings of the card that come from the driver.
        """
        name = self.name or self.driver
        label = self.label or name
        texts = (
            {"name": f"{name}-{suffix}", "label": f"{label} {suffix}"}
            if suffix
            else {"name": name, "label": label}
        )
        return {**texts, "description": self.description, "tags": self.tags, **more}


class SensorTable(Common):
    """Keys of every sensor."""

    every: float = Field(default=5.0, gt=0, description="seconds between readings")
    deadband: float | None = Field(default=None, ge=0, description="smaller changes are not sent")
    min_interval: float | None = Field(default=None, ge=0, description="least seconds between two states")

    def sensor(self, suffix: str = "", **more: Any) -> dict[str, Any]:
        """Return the settings of the card of one of the table's sensors."""
        timing = {"every": self.every, "deadband": self.deadband, "min_interval": self.min_interval}
        return self.card(suffix, **{**timing, **more})


class OneQuantity(SensorTable):
    """Keys of a sensor that measures one number."""

    normal: Range | None = None
    warning: Range | None = None

    def sensor(self, suffix: str = "", **more: Any) -> dict[str, Any]:
        """Return the settings of the card, ranges included."""
        return super().sensor(suffix, **{"normal": self.normal, "warning": self.warning, **more})


class I2CTable(SensorTable):
    """Keys of a chip on an I²C bus."""

    bus: BusName = Field(default="board", description='"board", a number N for /dev/i2c-N, or "simulated"')
