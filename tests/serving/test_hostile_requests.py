"""benchmarks/hostile.py for some hundred requests: nothing fails, fills the log, or leaves a job or a file behind."""

from __future__ import annotations

import errno
import itertools
import os
import socket

import pytest
from gradio.route_utils import GradioUploadFile

from benchmarks.hostile import exchange, faults, files_in, requests_to, serving

REQUESTS, SEED = 250, 14


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def full_disk_is_one_sentence(address, monkeypatch) -> None:
    """What Gradio had written of an upload kept its space until the garbage was collected, so the disk stayed full."""
    held = []

    async def write(self, data: bytes) -> None:
        held.append(self.file)
        self.file.write(data)
        self.file.flush()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(GradioUploadFile, "write", write)
    body = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.csv"\r\n\r\nquestion\r\n--b--\r\n'
    head = f"POST /gradio_api/upload HTTP/1.0\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    status, answer = exchange(address, f"{head}Content-Type: multipart/form-data; boundary=b\r\n\r\n".encode() + body)
    assert status == 507 and b"This could not be written: No space left on device. Free some space" in answer
    assert [os.fstat(file.fileno()).st_size for file in held] == [0]


@pytest.mark.parametrize("public", [False, True])
def test_hostile_requests_change_nothing_and_fill_no_log(tmp_path, capfd, monkeypatch, public):
    """Before, 2,057 such requests got 274 bare 500s, wrote 1.7 MB to the log and left 22 files. The public server
    listens on ::1, where none could be started."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    host = "::1" if public and has_ipv6() else "127.0.0.1"
    with serving(tmp_path, host, public=public) as (page, address):
        before, lines, refused = files_in(tmp_path), 0, 0
        for request in itertools.islice(requests_to(page, address, SEED), REQUESTS):
            status, body = exchange(address, request)
            logged = "".join(capfd.readouterr())
            lines, refused = lines + logged.count("\n"), refused + (status >= 400)
            assert not faults(status, body, logged, str(tmp_path)), request[:1000]
        assert lines <= REQUESTS and refused > REQUESTS / 2
        assert files_in(tmp_path) == before
        full_disk_is_one_sentence(address, monkeypatch)
        assert files_in(tmp_path) == before
        assert exchange(address, b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n") == (200, b"ok\n")
