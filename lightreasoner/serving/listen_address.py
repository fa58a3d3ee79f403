"""The address that the server listens on, checked before anything slow: a host of either IP version, and a port."""

import errno
import socket
from argparse import ArgumentTypeError

from lightreasoner.errors import UserError

REASONS = {
    errno.EADDRINUSE: "another program uses this port; stop it or choose another --port",
    errno.EACCES: "ports below 1024 belong to the system; choose another --port",
    errno.EADDRNOTAVAIL: "this machine does not have that address; choose another --host",
}


def port_number(text: str) -> int:
    """A port of the command line. Raises ArgumentTypeError."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:6]) <= 65_535:
        raise ArgumentTypeError(f"{text[:40]!r} is no port; choose a whole number from 1 to 65535")
    return int(text)


def bracketed(host: str) -> str:
    """A host as it stands in a URL: an IPv6 address in brackets."""
    bare = host.strip("[]")
    return f"[{bare}]" if ":" in bare else bare


def local_url(host: str, port: int) -> str:
    """The page's address on this machine."""
    everywhere = {"0.0.0.0": "localhost", "[::]": "[::1]"}
    return f"http://{everywhere.get(bracketed(host), bracketed(host))}:{port}/"


def check_free(host: str, port: int) -> None:
    """Raises UserError if nothing can listen on this host and port."""
    bare = host.strip("[]")
    # Gradio tries the port on this machine's IPv4 address, whatever it will listen on
    for name in (bare, "127.0.0.1") if ":" in bare else (bare,):
        try:
            if not name:
                raise ValueError
            found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, kind, protocol, _, address in found:
                with socket.socket(family, kind, protocol) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    if family == socket.AF_INET6:
                        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    probe.bind(address)
        except (socket.gaierror, UnicodeError, ValueError):
            raise UserError(
                f"{host[:80]!r} is no name or address of this machine; choose another --host, e.g. 127.0.0.1 or ::1."
            ) from None
        except OSError as error:
            why = REASONS.get(error.errno, f"{error.strerror}; choose another --host or --port")
            raise UserError(f"Cannot listen on {host[:80]}, port {port}: {why}.") from None
