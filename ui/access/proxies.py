"""Whose X-Forwarded-* headers are believed, and the client's address behind such a proxy."""

import ipaddress
from dataclasses import dataclass

from lightreasoner.errors import UserError

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
#: Removed from the requests of everybody else; Gradio builds addresses from some.
FORWARDED = (b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-gradio-server", b"forwarded")


@dataclass(frozen=True)
class Proxies:
    """`networks` of trusted proxies; without any, a proxy on this machine is trusted. On a Space, all are."""

    networks: tuple = ()
    everyone: bool = False
    space: bool = False

    def trusts(self, peer: str) -> bool:
        """Whether the program at the other end of the connection is a proxy that is trusted."""
        return self.everyone or self.space or _within(peer, self.networks or LOOPBACK)

    def client_address(self, peer: str, forwarded_for: str) -> str:
        """The client's address: the last one in X-Forwarded-For, which the trusted proxy wrote itself, or the last but
        those of listed proxies. The client can make up all before it. On a Space, whose proxies have private addresses,
        the last public one."""
        if not self.trusts(peer):
            return peer
        found = peer
        for entry in reversed(forwarded_for.split(",")):
            address = _parse(entry)
            if address is None:
                break
            if self.space:
                if address.is_global:
                    return str(address)
                continue
            found = str(address)
            if not _within(found, self.networks):
                break
        return found


def trusted_proxies(setting: str, space: bool = False) -> Proxies:
    """From the setting `proxies`: addresses and networks separated by commas, or "*". Raises UserError."""
    entries = [entry.strip() for entry in setting.split(",") if entry.strip()]
    try:
        networks = tuple(ipaddress.ip_network(entry, strict=False) for entry in entries if entry != "*")
    except ValueError as error:
        raise UserError(
            f"LIGHTREASONER_PROXIES or FORWARDED_ALLOW_IPS is {setting!r}, and {error}; list the addresses of your "
            "proxies, separated by commas."
        ) from None
    return Proxies(networks, "*" in entries, space)


def _parse(entry: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An entry of X-Forwarded-For; some proxies add a port."""
    text = entry.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _within(peer: str, networks: tuple) -> bool:
    address = _parse(peer)
    return address is not None and any(address in network for network in networks)
