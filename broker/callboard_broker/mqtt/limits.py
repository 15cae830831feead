"""Every bound of the broker; the definition is core's, because they are settings."""

from callboard_core.settings import BrokerLimits as Limits

__all__ = ["HEADROOM", "Limits"]

#: What a packet may have besides its payload: topic, properties, headers.
HEADROOM = 131_072
