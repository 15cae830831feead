"""The direct lane: calls straight to a worker's process, past the broker, which stays the directory and the way back."""
