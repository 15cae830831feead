"""Each error keeps its code and status wherever it travels."""

import pytest

from callboard_core import errors
from callboard_core.errors import ERRORS, CallboardError, Failed, error_from_code

#: The table of codes that clients rely on; changing a line breaks them.
STABLE = {
    "bad_request": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "conflict": 409,
    "expired": 410,
    "too_large": 413,
    "failed": 500,
    "overloaded": 503,
    "unavailable": 503,
    "timeout": 504,
}


def test_codes_and_their_http_status_are_stable():
    assert {code: kind.http_status for code, kind in ERRORS.items()} == STABLE


@pytest.mark.parametrize("code", STABLE)
def test_an_error_comes_back_from_its_code(code):
    error = error_from_code(code, "why")
    assert type(error) is ERRORS[code]
    assert (error.code, error.message, str(error)) == (code, "why", "why")


def test_an_unknown_code_is_a_failure():
    error = error_from_code("brand_new", "why")
    assert type(error) is Failed
    assert error.code == "failed"


def test_every_public_error_has_a_known_code():
    public = [getattr(errors, name) for name in errors.__all__]
    kinds = [kind for kind in public if isinstance(kind, type) and issubclass(kind, CallboardError)]
    assert {kind.code for kind in kinds} == set(STABLE)
