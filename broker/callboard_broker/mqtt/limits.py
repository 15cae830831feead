"""Every bound of the broker; the definition is core's, because they are settings."""

from callboard_core.settings import BrokerLimits as Limits

__all__ = ["HEADROOM", "LARGEST_CONNECT", "Limits"]

#: What a packet may have besides its payload: topic, properties, headers.
HEADROOM = 131_072
#: What a CONNECT can hold: client id, will topic, will, user name and password of 65,535 bytes each, and properties.
LARGEST_CONNECT = 5 * 65_537 + HEADROOM
