"""The language every part of Callboard shares: topics, cards, messages, and one MQTT connection.

Nothing in here knows about the board's services, the node agent or the console.
"""
