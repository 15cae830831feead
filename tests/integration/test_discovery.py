"""Boards are found over real sockets: on one machine, and between machines on one Ethernet."""

import json
import secrets
import socket
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from itertools import islice

import pytest

from callboard_core.discovery import Advertiser, find_board, find_boards
from callboard_core.discovery.networks import LOOPBACK
from callboard_core.errors import BadRequest, Conflict, Unavailable
from support.netns import lan
from support.root import needs_root
from support.waiting import wait_until


@pytest.fixture
def port():
    """A UDP port nobody uses."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as free:
        free.bind(("", 0))
        return free.getsockname()[1]


@pytest.fixture
def site():
    """A site no other test uses: multicast DNS knows no ports to keep tests apart."""
    return f"test-{secrets.token_hex(4)}"


def another(port):
    return port - 1 if port > 1024 else port + 1


@contextmanager
def advertised(**settings):
    advertiser = Advertiser(**({"mqtt_port": 1883, "mdns": False} | settings))
    advertiser.start()
    try:
        yield advertiser
    finally:
        advertiser.stop()


@contextmanager
def impostor(port, *packets):
    """Somebody on loopback who answers each query with these packets; ``nonce`` in them becomes the query's."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((str(LOOPBACK.network.broadcast_address), port))

    def answer():
        query, sender = listener.recvfrom(2048)
        for packet in packets:
            listener.sendto(packet.replace(b"NONCE", json.loads(query)["nonce"].encode()), sender)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        thread.join(30)
        listener.close()


def test_a_board_on_loopback_is_found_in_far_less_than_a_second(site, port):
    with advertised(site=site, port=port, mqtt_port=4711, http_url="http://127.0.0.1:8470", version="0.1.0"):
        times = []
        for _ in range(20):
            start = time.perf_counter()
            found = find_board(site, 30, port=port)
            times.append(time.perf_counter() - start)
    assert (found.host, found.mqtt_port, found.via) == ("127.0.0.1", 4711, "udp")
    assert (found.http_url, found.version) == ("http://127.0.0.1:8470", "0.1.0")
    assert found.mqtt_url == "mqtt://127.0.0.1:4711"
    # Far less than the time-out; what it usually takes is for a benchmark to say.
    assert min(times) < 0.1
    assert statistics.median(times) < 1


def test_a_board_on_all_addresses_is_found_too(site, port):
    with advertised(site=site, port=port, bind="0.0.0.0", http_url="http://0.0.0.0:8470"):
        found = find_board(site, 30, port=port)
    assert found.http_url == f"http://{found.host}:8470"


def test_a_board_is_found_by_multicast_dns_alone(site, port):
    with advertised(site=site, port=port, mqtt_port=4711, mdns=True, version="0.1.0"):
        found = find_board(site, 30, port=another(port))
    assert (found.site, found.host, found.mqtt_port) == (site, "127.0.0.1", 4711)
    assert (found.version, found.via) == ("0.1.0", "mdns")


@pytest.mark.parametrize(("board", "node"), [(True, False), (False, True)])
def test_multicast_dns_can_be_switched_off_on_either_side(site, port, board, node):
    with (
        advertised(site=site, port=port, mdns=board),
        pytest.raises(Unavailable, match=f"no board of site '{site}' answered within 1 s"),
    ):
        find_board(site, 1, port=another(port), mdns=node)


def test_boards_of_several_sites_share_a_machine_and_a_port(site, port):
    sites = [f"{site}-{number}" for number in range(4)]
    with ExitStack() as stack:
        for number, each in enumerate(sites):
            stack.enter_context(advertised(site=each, port=port, mqtt_port=1000 + number))
        found = [find_board(each, 5, port=port).mqtt_port for each in sites]
    assert found == [1000, 1001, 1002, 1003]


def test_many_nodes_ask_at_once_and_each_finds_its_board(site, port):
    sites = [f"{site}-a", f"{site}-b"]
    with (
        advertised(site=sites[0], port=port, mqtt_port=1),
        advertised(site=sites[1], port=port, mqtt_port=2),
        ThreadPoolExecutor(20) as pool,
    ):
        found = list(pool.map(lambda each: find_board(each, 10, port=port), sites * 20))
    assert [each.site for each in found] == sites * 20
    assert [each.mqtt_port for each in found] == [1, 2] * 20


def test_when_another_site_answers_the_error_names_it(site, port):
    with (
        advertised(site=site, port=port, mqtt_port=4711),
        impostor(port, b'{"callboard": 1, "nonce": "NONCE", "site": "cellar", "mqtt": 4711}'),
        pytest.raises(Unavailable, match=r"others did: 'cellar' at mqtt://127.0.0.1:4711"),
    ):
        find_board("nobody", 0.5, port=port, mdns=False)


def test_a_board_that_starts_later_is_found_while_somebody_waits(site, port):
    with ThreadPoolExecutor(1) as pool:
        asking = threading.Event()

        def ask():
            asking.set()
            return find_board(site, 30, port=port, mdns=False)

        found = pool.submit(ask)
        asking.wait(5)
        with advertised(site=site, port=port):
            assert found.result(30).site == site


def test_hostile_packets_are_counted_and_change_nothing(site, port):
    hostile = [
        b"",
        b"\x00" * 100,
        b"\xff" * 513,
        b"[" * 500,
        b"x" * 9000,
        b'{"callboard": 1, "ask": "board", "nonce": "0123456789", "site": "#"}',
        b'{"callboard": 1, "nonce": "0123456789", "site": "x", "mqtt": 1}',
    ]
    with (
        advertised(site=site, port=port) as board,
        closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as enemy,
    ):
        enemy.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for packet in hostile:
            enemy.sendto(packet, ("127.255.255.255", port))
        assert find_board(site, 30, port=port).site == site
        assert board.ignored == len(hostile)
        # It counts what it has sent, which the asker may read before; a slow machine's asker asks again.
        wait_until(lambda: board.answered)


def test_a_hostile_answer_is_passed_over_and_the_true_one_taken(site, port):
    lies = [
        b"",
        b"\xff" * 60_000,
        b'{"callboard": 1, "nonce": "0000000000000000", "site": "%s", "mqtt": 1}' % site.encode(),
        b'{"callboard": 1, "nonce": "NONCE", "site": "%s", "mqtt": 0}' % site.encode(),
        b'{"callboard": 1, "nonce": "NONCE", "site": "%s", "mqtt": 1, "http": "file:///etc"}' % site.encode(),
        b'{"callboard": 1, "nonce": "NONCE", "site": "%s", "mqtt": 4711}' % site.encode(),
    ]
    with impostor(port, *lies):
        assert find_board(site, 30, port=port, mdns=False).mqtt_port == 4711


def test_unusable_answers_are_counted_in_the_error(site, port):
    with impostor(port, b"junk", b"junk"), pytest.raises(Unavailable, match="2 answers were not usable"):
        find_board(site, 0.3, port=port, mdns=False)


def test_a_port_that_another_program_holds_is_a_conflict_with_a_remedy(site, port):
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as holder:
        holder.bind(("", port))
        with pytest.raises(Conflict, match=rf"UDP port {port} is taken.*discovery\.port"):
            Advertiser(site=site, mqtt_port=1, port=port).start()


def test_an_address_of_another_machine_is_refused(site, port):
    with pytest.raises(BadRequest, match=rf"cannot listen for discovery on 203\.0\.113\.1:{port}"):
        Advertiser(site=site, mqtt_port=1, port=port, bind="203.0.113.1").start()


def test_a_stopped_board_frees_its_port_and_leaves_no_thread(site, port):
    before = set(threading.enumerate())
    with advertised(site=site, port=port, mdns=True):
        find_board(site, 30, port=port)
        with pytest.raises(Unavailable):
            find_board("nobody", 0.5, port=port)
    assert set(threading.enumerate()) == before
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as free:
        free.bind(("", port))


BOARD = """
import sys
from callboard_core.discovery import Advertiser
site, bind, mdns = sys.argv[1:]
advertiser = Advertiser(site=site, mqtt_port=4711, http_url="http://0.0.0.0:8470", bind=bind, mdns=mdns == "yes")
advertiser.start()
print("ready", flush=True)
sys.stdin.read()
advertiser.stop()
"""

NODE = """
import sys, time
from callboard_core.discovery import find_board
from callboard_core.errors import Unavailable
site, timeout, port = sys.argv[1:]
print("asking", flush=True)
start = time.perf_counter()
try:
    found = find_board(site, float(timeout), port=int(port))
    print(found.host, found.mqtt_port, found.http_url, found.via, time.perf_counter() - start)
except Unavailable as error:
    print("nobody", error)
"""


@contextmanager
def board_on(network, name, *, site, bind, mdns=False):
    board = network.python(name, BOARD, site, bind, "yes" if mdns else "no")
    try:
        assert board.stdout.readline() == "ready\n", board.stderr.read()
        yield
    finally:
        _, errors = board.communicate(timeout=20)
        assert (board.returncode, errors) == (0, "")


def node_on(network, name, *, site, timeout=30.0, port=18831):
    node = network.python(name, NODE, site, str(timeout), str(port))
    assert node.stdout.readline() == "asking\n", node.stderr.read()
    return node


def answer_of(node):
    with node:  # communicate() would miss what readline() has read ahead
        output, errors = node.stdout.read(), node.stderr.read()
    assert errors == ""
    return output.split()


def test_every_board_that_answers_is_found_so_that_the_right_one_can_be_told(site, port):
    ports = (4711, 4712, 4713)
    with ExitStack() as stack:
        for number in ports:
            stack.enter_context(advertised(site=site, mqtt_port=number, port=port))
        with closing(find_boards(site, 10.0, port=port, mdns=False)) as found:
            assert sorted(one.mqtt_port for one in islice(found, len(ports))) == list(ports)
    assert list(find_boards(site, 0.2, port=port, mdns=False)) == []


@needs_root
@pytest.mark.parametrize("bind", ["0.0.0.0", "10.77.0.1"])
def test_a_node_finds_a_board_on_another_machine_in_less_than_a_second(site, bind):
    with lan() as network:
        address = network.add("board")
        network.add("node")
        with board_on(network, "board", site=site, bind=bind):
            answers = [answer_of(node_on(network, "node", site=site)) for _ in range(5)]
    assert {tuple(found) for *found, _ in answers} == {(address, "4711", f"http://{address}:8470", "udp")}
    assert min(float(seconds) for *_, seconds in answers) < 1  # the best of them: the machine may be busy


@needs_root
def test_multicast_dns_finds_a_board_on_another_machine_when_broadcast_cannot(site):
    with lan() as network:
        address = network.add("board")
        network.add("node")
        with board_on(network, "board", site=site, bind="0.0.0.0", mdns=True):
            host, port, http, via, _ = answer_of(node_on(network, "node", site=site, port=18832))
    assert (host, port, http, via) == (address, "4711", f"http://{address}:8470", "mdns")


@needs_root
def test_a_board_on_loopback_is_not_found_from_another_machine(site):
    with lan() as network:
        network.add("board")
        network.add("node")
        with board_on(network, "board", site=site, bind="127.0.0.1", mdns=True):
            assert answer_of(node_on(network, "node", site=site, timeout=1.5))[0] == "nobody"
            assert answer_of(node_on(network, "board", site=site))[0] == "127.0.0.1"


@needs_root
@pytest.mark.parametrize("port", [18831, 18832], ids=["udp", "mdns"])
def test_a_node_whose_network_comes_up_later_finds_the_board(site, port):
    with lan() as network:
        address = network.add("board")
        network.add("node", cable=False)
        with board_on(network, "board", site=site, bind="0.0.0.0", mdns=True):
            node = node_on(network, "node", site=site, port=port)
            network.plug("node")
            assert answer_of(node)[0] == address


@needs_root
@pytest.mark.parametrize("port", [18831, 18832], ids=["udp", "mdns"])
def test_a_board_whose_network_comes_up_later_is_found(site, port):
    with lan() as network:
        address = network.add("board", cable=False)
        network.add("node")
        with board_on(network, "board", site=site, bind="0.0.0.0", mdns=True):
            node = node_on(network, "node", site=site, port=port)
            network.plug("board")
            assert answer_of(node)[0] == address
