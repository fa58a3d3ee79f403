"""A real nginx on this machine in front of the app, with the block of docs/deploy.md."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.browser import ROOT, free_port

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def documented_block() -> str:
    """The location of docs/deploy.md."""
    return re.search(r"```nginx\n(.*?)```", (ROOT / "docs/deploy.md").read_text(), re.DOTALL)[1]


@contextmanager
def nginx(folder: Path, app_port: int, block: str) -> Iterator[str]:
    """Serve the app under the block's prefix; the address without a slash at the end."""
    port = free_port()
    block = block.replace("127.0.0.1:7860", f"127.0.0.1:{app_port}")
    paths = "".join(f"{name}_temp_path {folder}/{name};\n" for name in TEMPORARY)
    server = f"server {{ listen 127.0.0.1:{port};\n{block}}}"
    config = folder / "nginx.conf"
    text = f"daemon off; pid {folder}/pid; events {{}}\nhttp {{ access_log off;\n{paths}{server} }}"
    config.write_text(text)
    process = subprocess.Popen([NGINX, "-p", folder, "-c", config, "-e", folder / "error.log"])
    try:
        for _ in range(100):
            with socket.socket() as there:
                if there.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, (folder / "error.log").read_text()
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}{re.search(r'location (.*)/ ', block)[1]}"
    finally:
        process.terminate()
        process.wait()
