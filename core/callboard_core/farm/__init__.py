"""What board, slots and people say to each other about rendering: frames, states and messages. No I/O."""
