"""The broker's core without I/O: fed bytes and ticks, it answers with bytes to write and connections to close."""
