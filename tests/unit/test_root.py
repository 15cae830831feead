"""support.root: what cannot run is a skip here and a failure in CI."""

import pytest

from support.root import cannot, must_run


@pytest.mark.parametrize(("said", "must"), [("true", True), ("1", True), ("", False), ("false", False)])
def test_ci_says_whether_everything_must_run(monkeypatch, said, must):
    monkeypatch.setenv("CI", said)
    assert must_run() is must


def test_what_cannot_run_fails_in_ci_and_is_skipped_elsewhere(monkeypatch):
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="needs root"):
        cannot("needs root")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="needs root"):
        cannot("needs root")
