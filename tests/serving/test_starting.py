"""The server's start: its address, its workspace, and Ctrl+C before it is open."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from lightreasoner.cli.main import main
from lightreasoner.errors import UserError, disk_trouble
from lightreasoner.serving.listen_address import bracketed, check_free, local_url, port_number
from lightreasoner.settings import ROOT
from lightreasoner.storage.atomic import check_writable


@pytest.mark.parametrize("text", ["99999", "65536", "0", "-1", "abc", "", "7860.5", " 1", "７８６０", "9" * 5000])
def test_what_is_no_port_is_refused(text):
    """99999 and abc ended in tracebacks, also as GRADIO_SERVER_PORT."""
    with pytest.raises(ArgumentTypeError, match="is no port; choose a whole number from 1 to 65535"):
        port_number(text)


def test_ports_and_hosts():
    assert [port_number(text) for text in ("1", "7860", "65535")] == [1, 7860, 65535]
    assert [bracketed(host) for host in ("::1", "[::1]", "127.0.0.1", "a")] == ["[::1]", "[::1]", "127.0.0.1", "a"]
    hosts = {"0.0.0.0": "localhost", "::": "[::1]", "::1": "[::1]", "studio": "studio"}
    assert {host: local_url(host, 7) for host in hosts} == {h: f"http://{shown}:7/" for h, shown in hosts.items()}


@pytest.mark.parametrize("host", ["", "[", "a b", "no.such.invalid", "999.1.1.1", "http://localhost", "x" * 300, "\0"])
def test_a_host_that_is_none_is_one_sentence(host):
    with pytest.raises(UserError, match="is no name or address of this machine; choose another --host"):
        check_free(host, 7860)


def test_an_address_that_is_taken_or_not_here_is_one_sentence():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UserError, match="another program uses this port; stop it or choose another --port"):
            check_free("127.0.0.1", port)
    check_free("127.0.0.1", port)
    with pytest.raises(UserError, match="this machine does not have that address"):
        check_free("192.0.2.1", port)


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EROFS, "Make it writable for this user and resume."),
        (errno.EACCES, "Make it writable for this user and resume."),
        (errno.ENOTDIR, "Check that path and resume."),
        (errno.ENOSPC, "Free some space and resume."),
    ],
)
def test_space_is_asked_for_where_the_disk_is_full_only(number, advice):
    error = OSError(number, os.strerror(number))
    assert disk_trouble(error, "Free some space and resume.", writing=True) == f"{os.strerror(number)}. {advice}"


@pytest.fixture
def read_only(monkeypatch):
    """New folders are refused as on a disk that is mounted read-only: the suite may run as root, whom no permission
    stops."""

    def refuse(path, *arguments, **more):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)


@pytest.mark.parametrize("verb", [("jobs", "list"), ("jobs", "run"), ("import", "x.jsonl", "--run-dir", "{}/run")])
def test_a_read_only_workspace_is_one_sentence(verb, tmp_path, monkeypatch, capsys, read_only):
    """`jobs list` said "Free some space"."""
    monkeypatch.setenv("LIGHTREASONER_WORKSPACE", str(tmp_path / "studio"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.jsonl").write_text('{"question": "a", "response": "b"}')
    assert main([word.format(tmp_path) for word in verb]) == 2
    said = capsys.readouterr().err
    assert "Read-only file system" in said and said.count("\n") == 1 and "space." not in said


def test_a_job_list_that_cannot_be_opened_is_not_tried_again_in_a_moment(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LIGHTREASONER_WORKSPACE", str(tmp_path))
    (tmp_path / "jobs" / "jobs.sqlite").mkdir(parents=True)
    assert main(["jobs", "list"]) == 2
    assert "in a moment" not in capsys.readouterr().err


def test_the_server_needs_a_workspace_that_it_can_write(tmp_path, read_only):
    with pytest.raises(UserError, match=r"cannot be written: Read-only file system\. Make it writable"):
        check_writable(tmp_path / "studio")


def test_ctrl_c_during_the_start_ends_it_without_a_word(tmp_path):
    """It printed the traceback of whatever was being imported."""
    workspace = tmp_path / "studio"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    started = subprocess.Popen(
        [sys.executable, "app.py", "--port", port],
        cwd=ROOT,
        env=os.environ | {"LIGHTREASONER_WORKSPACE": str(workspace), "LIGHTREASONER_DEVICE": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
    )
    while not workspace.exists():  # made just before seconds of imports
        assert started.poll() is None
        time.sleep(0.02)
    started.send_signal(signal.SIGINT)
    said, _ = started.communicate(timeout=60)
    assert (started.returncode, said) == (130, b"")
