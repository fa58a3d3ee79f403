"""benchmarks/hostile.py for some hundred requests: nothing fails, fills the log, or leaves a job or a file behind."""

from __future__ import annotations

import itertools

import pytest

from benchmarks.hostile import exchange, faults, files_in, requests_to, serving

REQUESTS, SEED = 250, 14


@pytest.mark.parametrize("public", [False, True])
def test_hostile_requests_change_nothing_and_fill_no_log(tmp_path, capfd, monkeypatch, public):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    with serving(tmp_path, public=public) as (page, port):
        before, lines, refused = files_in(tmp_path), 0, 0
        for request in itertools.islice(requests_to(page, port, SEED), REQUESTS):
            status, body = exchange(port, request)
            logged = "".join(capfd.readouterr())
            lines, refused = lines + logged.count("\n"), refused + (status >= 400)
            assert not faults(status, body, logged, str(tmp_path)), request[:1000]
        assert lines <= REQUESTS and refused > REQUESTS / 2
        assert files_in(tmp_path) == before
