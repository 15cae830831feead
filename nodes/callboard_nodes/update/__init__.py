"""Updates on the node: fetched and checked (``intake``), applied by root (``apply``), undone by root (``rollback``)."""
