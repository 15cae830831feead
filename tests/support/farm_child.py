"""A node with slots as a process of its own, to be killed: ``python farm_child.py SETTINGS.json [ARTIFACTS]``.

With a folder of artifacts it does without the board's.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from callboard_core.settings import Settings
from callboard_nodes.agent import make_agent
from callboard_nodes.hosting import until_signal
from callboard_nodes.running import Running
from support.farm import FolderStore


def main() -> None:
    """Run the agent's node; artifacts lie in a folder."""
    settings = Settings.model_validate_json(Path(sys.argv[1]).read_text())
    node = make_agent(settings, restart=lambda: None)

    class Folders:
        def __init__(self, running: Running) -> None:
            running.link.artifacts = FolderStore(Path(sys.argv[2]))

        def start(self) -> None:
            pass

        async def stop(self) -> None:
            pass

    if len(sys.argv) > 2:
        node.extend(Folders)
    asyncio.run(until_signal(node.serve(ready=lambda: print("ready", flush=True))))


if __name__ == "__main__":
    main()
