"""Services, the ids of their workers, and how near these are."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard_core.calls.names import (
    LONGEST,
    SERVICE_PATTERN,
    check_service,
    field_of,
    numbered,
    service_filter,
)
from callboard_core.calls.place import Nearness, Place, here, nearness
from callboard_core.calls.roster import is_news
from callboard_core.errors import BadRequest
from callboard_core.messages import Status, StatusName
from callboard_core.topics import check_id

services = st.from_regex(SERVICE_PATTERN, fullmatch=True).filter(lambda text: len(text) <= LONGEST)


@pytest.mark.parametrize("name", ["texture", "test-multihosting:worker-9", "a:b:c", "v1.2:x", "0"])
def test_names_of_fields_are_services(name: str):
    assert check_service(name) == name


@pytest.mark.parametrize("name", ["", ":", "a:", ":a", "A", "a b", "a/b", "-a", "a:-b", "a+", "ä", "a" * 201])
def test_anything_else_is_none(name: str):
    with pytest.raises(BadRequest, match="service"):
        check_service(name)


@given(services)
def test_a_name_means_itself_and_nothing_else(service: str):
    assert service_filter(service).fullmatch(service)
    assert not service_filter(service).fullmatch(service + "x")


def test_globs_and_regular_expressions_mean_many():
    assert service_filter("render:*").fullmatch("render:frames:1")
    assert not service_filter("render:*").fullmatch("render")
    assert service_filter(re.compile(r"worker-10:[-a-f0-9]+")).fullmatch("worker-10:ab-1")
    with pytest.raises(BadRequest):
        service_filter("No Glob")


def test_python_names_become_fields():
    assert field_of("take_picture") == "take-picture"


@given(st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True), st.integers(0, 10_000))
def test_numbered_names_are_ids_and_differ(name: str, taken: int):
    assert check_id(numbered(name, taken))
    assert numbered(name, 0) == name
    assert numbered(name, taken) != numbered(name, taken + 1)


ME = Place("host", "host/1/x")


@pytest.mark.parametrize(
    ("host", "process", "scope", "expected"),
    [
        ("host", "host/1/x", "process", Nearness.PROCESS),
        ("host", "host/2/y", "process", None),
        ("host", "host/2/y", "host", Nearness.HOST),
        ("other", "other/1/x", "host", None),
        ("other", "other/1/x", "site", Nearness.SITE),
        (None, None, "site", Nearness.SITE),
    ],
)
def test_scope_says_from_how_far_away_a_worker_may_be_used(host, process, scope, expected):
    assert nearness(SimpleNamespace(host=host, process=process, scope=scope), ME) is expected


def test_a_process_has_one_place():
    assert here() is here()
    assert here().process.startswith(here().host)


def status(epoch: int = 1, t: float = 10.0, instance: str | None = "a") -> Status:
    return Status(status=StatusName.READY, epoch=epoch, t=t, instance=instance)


@pytest.mark.parametrize(
    ("now", "before", "news"),
    [
        (status(), status(), False),
        (status(t=11), status(), True),
        (status(t=9), status(), False),
        (status(epoch=2, t=1), status(), True),
        (status(instance="b"), status(), True),
        (status(epoch=0, instance="b", t=99), status(), False),
        (status(), None, True),
        (None, status(), True),
    ],
)
def test_a_lost_member_is_back_only_when_it_says_so_anew(now, before, news):
    assert is_news(now, before) is news
