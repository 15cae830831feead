"""The HTTP API: one router per noun over the board's services. Nothing in here decides; it asks and answers."""
