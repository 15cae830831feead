"""What the board does, one module per noun: registry, historian, refusals, values, feed, tokens."""
