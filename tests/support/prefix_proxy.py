"""A tiny reverse proxy for tests: the app is seen under a path prefix, which the proxy takes off."""

from __future__ import annotations

import http.client
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "server", "date"}


@contextmanager
def prefix_proxy(target: str, prefix: str) -> Iterator[str]:
    """Serve what lies at `target` under an address that ends in `prefix`; the address. Outside the prefix is nothing.
    It streams, and tells the app only what every proxy tells: the host that was asked for."""
    inside = urlsplit(target).netloc

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"  # an answer ends with its connection, so that streams need no framing

        def pass_on(self):
            if not self.path.startswith(prefix):
                self.send_error(404, "outside the prefix")
                return
            path = self.path.removeprefix(prefix)
            if not path.startswith("/"):  # as nginx does for `location /prefix/`: the page's own paths are relative
                self.send_response(301)
                self.send_header("Location", f"{prefix}/{path}")
                self.end_headers()
                return
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            there = http.client.HTTPConnection(inside, timeout=120)
            try:
                headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
                there.request(self.command, path, body or None, headers)
                answer = there.getresponse()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in HOP:
                        self.send_header(name, value)
                self.end_headers()
                while chunk := answer.read1(65_536):
                    self.wfile.write(chunk)
                    self.wfile.flush()
            except (BrokenPipeError, ConnectionResetError):  # the browser went away
                pass
            finally:
                there.close()

        do_GET = do_POST = do_HEAD = pass_on

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{prefix}"
    finally:
        server.shutdown()
        server.server_close()
