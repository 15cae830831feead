"""An installed node: where it lies (``layout``), what systemd is told (``units``), its environments (``venvs``)."""
