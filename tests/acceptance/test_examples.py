"""The examples: each is run for real, all against one board, and says what it is to say."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from support.up import Up, eventually, running_board

EXAMPLES = Path(__file__).parents[2] / "examples"
#: These run until they are stopped: a node of its own, and what `multihosting/run.py` starts.
ENDLESS = {"greenhouse.py", "multihosting/worker.py"}

#: What each prints; the order of lines that come from several agents at once is left open.
SAYS = {
    "agents/answer_later.py": """
        asked, and went on
        the answer came: Hamlet is on shelf 6""",
    "agents/answer_publisher.py": """
        thank you, light: cue 17 is yours
        thank you, sound: cue 17 is yours""",
    "agents/bytes_and_arrays.py": r"""
        ['dict', {'a': [1, 2.5, None]}]
        ['bytes', b'\x00\xffraw']
        ndarray float32 (2, 3)
        refused: value: set does not travel
        refused: the result cannot be written as JSON: Unable to serialize unknown type: <class 'object'>""",
    "agents/change_filter.py": """
        heard of apple
        heard of apple
        heard of banana
        heard of banana""",
    "agents/dispatcher.py": """
        8 tasks of 0.32 s are done
        left over: []""",
    "agents/end_one.py": """
        ticks: 2 and 2
        first-clock has stopped
        the second ticks on: 3
        second-clock has stopped
        the node has ended""",
    "agents/groups.py": """
        all talk: True
        the guests have left: True
        the host still talks: True and nobody else: True""",
    "agents/hello.py": "Good evening, Ada!",
    "agents/inherit.py": """
        boom boom | ding | (ding)
        played: 2 and 1""",
    "agents/more_methods.py": """
        offers memory, timers
        offers add-to-memory, memory, square, timers
        36 + 6 = 42.0""",
    "agents/proxy.py": """
        picture 1, 0.1 s
        picture 2, 0.25 s
        picture 3, 2.0 s
        taken: 3
        Take a picture.
        refused before it was sent: exposure: expected a number, got 'long'""",
    "agents/publish.py": """
        balcony: the curtain goes up
        stalls: the curtain goes up
        balcony: the curtain goes down
        stalls: the curtain goes down""",
    "agents/publish_filter.py": """
        the kitchen cooks soup for table 1
        the bar mixes lemonade for table 2
        the kitchen cooks soup for table 3
        the till notes the order of table 1
        the till notes the order of table 2
        the till notes the tip of table 3""",
    "agents/push.py": """
        all are posted
        in the box: letter 1
        in the box: letter 2
        in the box: letter 3""",
    "agents/request.py": """
        [10.0, 5.0, 3.3333333333333335, 2.5, 2.0, 1.6666666666666667, 1.4285714285714286, 1.25, 1.1111111111111112, 1.0]
        ZeroDivisionError: division by zero
        3.0""",
    "agents/request_function.py": """
        CURTAIN!
        LIGHTS!
        APPLAUSE!""",
    "agents/timer_after.py": """
        waiting
        it rings
        it rings for the last time""",
    "agents/timer_every.py": """
        timers: beat, tick, tock
        said tick tocktock
        every beat was done, or counted as too late: True""",
    "agents/timer_stop.py": """
        stopped: True True False
        left: ['look']
        left: []""",
    "agents/ventilator.py": "10 loaves from 5 ovens",
    "agents/who_is_there.py": """
        there are lamp-1, lamp-2, lamp-3
        gone is lamp-2""",
    "patterns/answer_publisher.py": """
        noted, Berta
        noted, Carl
        sold to Berta for 150""",
    "patterns/dispatcher.py": """
        delivered: 12
        the quicker one delivered more: True""",
    "patterns/early_reply.py": """
        your cherry cake is being baked
        answered before it was done: True
        the cherry cake is ready""",
    "patterns/publish_subscribe.py": """
        counting: north-gate tells visitor, two adults
        watching the north: north-gate tells visitor, two adults
        counting: south-gate tells visitor, a class of 20
        worrying: south-gate tells jam, the gate is stuck""",
    "patterns/push_pull.py": "left had 10, middle had 10, right had 10",
    "patterns/request_reply.py": """
        called: 119.0
        in the background: [1.07, 2.14, 3.21]
        refused before it was sent: price: expected a number, got 'cheap'
        awaited: 11.9""",
    "patterns/scatter_gather.py": """
        shop:east says 14.0
        shop:north says 12.5
        shop:south says 11.0
        shop:west says LookupError: no lamp in the west
        cheapest: shop:south""",
    "patterns/ventilator_sink.py": """
        8 sacks, 0.90 s of work
        every mill had some of it: True""",
    "multihosting/run.py": """
        a table of 2 rows and 2 columns
        32 calls were answered by 8 workers
        the late worker has joined: True""",
}

Runs = dict[str, "Future[subprocess.CompletedProcess[str]]"]


def files() -> set[str]:
    return {str(file.relative_to(EXAMPLES)) for file in EXAMPLES.rglob("*.py")}


def ready(board: Up) -> set[str]:
    return {node for node, status in board.nodes().items() if status == "ready"}


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running_board(tmp_path_factory.mktemp("examples"), node=False) as up:
        yield up


@pytest.fixture(scope="module")
def runs(board: Up) -> Iterator[Runs]:
    """All examples, a few at a time, on one board."""
    env = board.env | {"CALLBOARD_STATE": str(board.state)}

    def run(name: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", str(EXAMPLES / name)]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=100, check=False)

    with ThreadPoolExecutor(4) as threads:
        yield {name: threads.submit(run, name) for name in SAYS}


@pytest.mark.parametrize("name", SAYS)
def test_an_example_runs_ends_and_says_what_it_shows(runs: Runs, name: str) -> None:
    done = runs[name].result()
    expected = [line.strip() for line in SAYS[name].strip().splitlines()]
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()) == sorted(expected)


@pytest.mark.parametrize("name", sorted(ENDLESS))
def test_those_that_have_no_end_run_until_they_are_told(board: Up, name: str) -> None:
    before = board.nodes()
    with subprocess.Popen(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        env=board.env | {"CALLBOARD_STATE": str(board.state)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            [node] = eventually(lambda: ready(board) - before.keys(), f"{name} is on the board")
        finally:
            process.terminate()
        _, log = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "Traceback" not in log
    assert board.nodes()[node] == "disconnected"


def test_every_example_is_run() -> None:
    assert files() - ENDLESS == set(SAYS)


def test_the_list_of_examples_is_complete_and_says_what_the_files_say() -> None:
    listed = re.findall(
        r"^\| \[`([^`]+)`\]\(([^)]+)\) \| (.+?) \|$", (EXAMPLES / "README.md").read_text(), re.MULTILINE
    )
    assert {name for name, _, _ in listed} == files()
    for name, link, words in listed:
        said = ast.get_docstring(ast.parse((EXAMPLES / name).read_text())) or ""
        assert link == name
        assert said.replace("``", "`").startswith(words), name
