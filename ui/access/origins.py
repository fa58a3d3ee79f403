"""The names that the server answers to, and which requests come from its own page.

A page of another site in the user's browser can send requests here. Browsers say so in Origin and Sec-Fetch-Site, which
pages cannot change. A name of another site that resolves to this machine (DNS rebinding) only shows in Host.
"""

import ipaddress
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from lightreasoner.errors import UserError

HOST = re.compile(r"(?:\[(?P<ipv6>[0-9a-fA-F:.]{2,45})\]|(?P<name>[A-Za-z0-9._-]{1,253}))(?::(?P<port>[0-9]{1,5}))?")
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Host:
    """A name in lower case or a normalised IP address, and the port if it is given."""

    name: str
    port: int | None
    address: ipaddress.IPv4Address | ipaddress.IPv6Address | None


def parse_host(text: str) -> Host | None:
    """The host and port of a Host header; None if it is not valid. A trailing dot is dropped."""
    match = HOST.fullmatch(text)
    if not match:
        return None
    name = (match["ipv6"] or match["name"].removesuffix(".")).lower()
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        address = None
    if (match["ipv6"] and address is None) or not name:
        return None
    address = getattr(address, "ipv4_mapped", None) or address
    return Host(str(address or name), int(match["port"]) if match["port"] else None, address)


@dataclass(frozen=True)
class AllowedHosts:
    """The hosts that the server answers to, besides loopback names."""

    names: frozenset[str]  # names and addresses
    suffixes: tuple[str, ...] = ()  # ".example.org" for *.example.org
    any_address: bool = False  # any IP address: one that was typed in cannot be rebound
    everything: bool = False

    def __contains__(self, host: Host) -> bool:
        if host.name in self.names or self.everything:
            return True
        if host.address:
            return self.any_address or host.address.is_loopback
        return host.name == "localhost" or host.name.endswith(self.suffixes)


def setting_entries(hosts: str) -> list[str]:
    """The entries of the setting `hosts`, without schemes and paths. Raises UserError for one that is no host."""
    entries = [re.sub(r"^https?://|/$", "", entry.strip()) for entry in hosts.split(",") if entry.strip()]
    for entry in entries:
        if entry != "*" and not parse_host(entry.removeprefix("*.")):
            raise UserError(
                f"LIGHTREASONER_HOSTS holds {entry!r}, which is not a host; list names such as studio.example.org or "
                "*.example.org, separated by commas."
            )
    return entries


def allowed_hosts(listening: str, hosts: str, space: str | None = None) -> AllowedHosts:
    """Those of a server that listens on this address or name. hosts: the setting. space: SPACE_HOST, "" if it is
    unknown, None outside of Spaces. Raises UserError."""
    entries = setting_entries(hosts)
    names = {parse_host(entry).name for entry in entries if not entry.startswith("*")}
    suffixes = [f".{parse_host(entry[2:]).name}" for entry in entries if entry.startswith("*.")]
    if space is not None:
        names |= {space.lower()}
        suffixes += [".hf.space"]
    wildcard = listening.strip("[]") in ("", "0.0.0.0", "::", "0")
    if wildcard:
        own = socket.gethostname().lower()
        names |= {own, own.partition(".")[0]}
    elif known := parse_host(f"[{listening.strip('[]')}]" if ":" in listening else listening):
        names |= {known.name}
    return AllowedHosts(frozenset(names - {""}), tuple(suffixes), wildcard, "*" in entries)


def frame_sources(hosts: str) -> list[str]:
    """The hosts of the setting as sources of a Content-Security-Policy, which has no notation for IPv6 addresses."""
    known = [entry for entry in setting_entries(hosts) if entry != "*" and "[" not in entry]
    return [entry if ":" in entry else f"{entry}:*" for entry in known]


def same_origin(origin: str, host: Host) -> bool:
    """Whether an Origin header names this host and port. The scheme is not compared: a proxy may speak HTTPS for us."""
    found = parse_origin(origin)
    if not found:
        return False
    site, scheme = found
    ports = {site.port or PORTS[scheme], host.port or PORTS[scheme]}
    return site.name == host.name and len(ports) == 1


def parse_origin(origin: str) -> tuple[Host, str] | None:
    """The host and scheme of an Origin header; None for "null" and other schemes."""
    try:
        parts = urlsplit(origin)
    except ValueError:  # an unbalanced bracket
        return None
    site = parse_host(parts.netloc)
    return (site, parts.scheme) if site and parts.scheme in PORTS else None


def from_own_page(headers: Mapping[str, str], own: list[Host], allowed: AllowedHosts) -> bool:
    """Whether a request comes from our own page or from no page: other programs send no origin, and hold no user's
    cookies. own: the hosts that the request was sent to, behind a proxy also the one that the browser sees."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site not in (None, "same-origin", "none"):
        return False
    if origin is None or any(same_origin(origin, host) for host in own):
        return True
    # a proxy that changes Host (a notebook's) leaves what the browser compared
    found = parse_origin(origin) if site == "same-origin" else None
    return bool(found) and found[0] in allowed


def is_page_load(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a browser loads a page to show it, after a click on a link in another site for example."""
    shown = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") in ("document", "iframe")
    return method in ("GET", "HEAD") and shown and "origin" not in headers
