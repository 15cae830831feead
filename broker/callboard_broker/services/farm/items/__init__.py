"""The farm as tables: what the JSON API reads and writes, one file per kind of item."""
