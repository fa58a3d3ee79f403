"""Issue 14: a web page in the user's browser reached a server on the user's own machine. What the gate lets through,
and what each piece of it decides."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from lightreasoner.errors import UserError
from lightreasoner.settings import Settings, from_environment
from tests.support.browser import App
from ui.access.gate import Rejected, check_request, gated, security_headers
from ui.access.origins import allowed_hosts, frame_sources, from_own_page, parse_host
from ui.access.proxies import trusted_proxies

EVIL = "http://evil.example:7860"
PULL = {"data": ["nobody/nothing"], "fn_name": "pull", "component_id": 1, "session_hash": "x"}


@pytest.mark.parametrize(
    ("listening", "setting", "host", "answered"),
    [
        ("127.0.0.1", "", "127.0.0.1:7860", True),
        ("127.0.0.1", "", "localhost:7999", True),  # ssh -L to another port
        ("127.0.0.1", "", "LOCALHOST.", True),
        ("127.0.0.1", "", "[::1]:7860", True),
        ("127.0.0.1", "", "[::ffff:127.0.0.1]:7860", True),
        ("127.0.0.1", "", "127.3.2.1", True),
        ("127.0.0.1", "", "evil.example:7860", False),
        ("127.0.0.1", "", "localhost.evil.example", False),
        ("127.0.0.1", "", "127.0.0.1.evil.example", False),
        ("127.0.0.1", "", "0x7f.1", False),
        ("127.0.0.1", "", "192.0.2.7:7860", False),
        ("127.0.0.1", "", "0.0.0.0:7860", False),
        ("::1", "", "[::1]:7860", True),
        ("192.0.2.7", "", "192.0.2.7:7860", True),
        ("192.0.2.7", "", "192.0.2.8:7860", False),
        ("[2001:DB8::7]", "", "[2001:db8:0::7]:7860", True),
        ("myserver", "", "MyServer:7860", True),
        ("0.0.0.0", "", "192.0.2.8:7860", True),  # any of its addresses: nobody can rebind an address
        ("0.0.0.0", "", "evil.example", False),
        ("::", "", "[2001:db8::8]", True),
        ("127.0.0.1", "studio.example.org, *.lab.example", "Studio.Example.org.", True),
        ("127.0.0.1", "https://studio.example.org/", "studio.example.org:8443", True),
        ("127.0.0.1", "*.lab.example", "a.lab.example", True),
        ("127.0.0.1", "*.lab.example", "lab.example", False),
        ("127.0.0.1", "*.lab.example", "evillab.example", False),
        ("127.0.0.1", "*", "evil.example", True),
    ],
)
def test_the_hosts_that_are_answered(listening, setting, host, answered):
    assert (parse_host(host) in allowed_hosts(listening, setting)) is answered


@pytest.mark.parametrize(
    "text",
    ["", ".", "a b", "a@b", "localhost:", "localhost:1:2", "[::1", "::1", "[evil]", "a/b", "a:99999999", "é", "a\n"],
)
def test_a_host_that_is_none(text):
    assert parse_host(text) is None


def test_a_space_answers_to_its_own_names():
    hosts = allowed_hosts("0.0.0.0", "", "ann-studio.hf.space")
    assert all(
        parse_host(name) in hosts for name in ("ann-studio.hf.space", "ann-studio--dev.hf.space", "10.0.3.4:7860")
    )
    assert parse_host("evil.example") not in hosts and parse_host("hf.space.evil.example") not in hosts


def test_settings_that_name_no_host_or_proxy_are_refused_in_a_sentence():
    for hosts in ("a b", "http://", "*.*.example", "studio.example.org/lab"):
        with pytest.raises(UserError, match=r"LIGHTREASONER_HOSTS holds .* list names such as"):
            gated(Settings(hosts=hosts), "127.0.0.1")
    with pytest.raises(UserError, match="list the addresses of your proxies"):
        gated(Settings(proxies="my-proxy"), "127.0.0.1")
    assert from_environment({"FORWARDED_ALLOW_IPS": "10.0.0.1"}).proxies == "10.0.0.1"


@pytest.mark.parametrize(
    ("headers", "own"),
    [
        ({}, True),  # no browser
        ({"origin": "https://a.example"}, True),
        ({"origin": "HTTPS://A.example:443"}, True),
        ({"origin": "http://a.example"}, True),
        ({"origin": "http://a.example", "sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),  # typed in
        ({"origin": "http://a.example:81"}, False),
        ({"origin": "http://a.example:81", "sec-fetch-site": "same-origin"}, True),  # nginx's $host drops the port
        ({"origin": "http://outer.example", "sec-fetch-site": "same-origin"}, True),  # a proxy that changes Host
        ({"origin": "http://outer.example"}, False),
        ({"origin": "http://evil.example", "sec-fetch-site": "same-origin"}, False),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "http://a.example.evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"origin": "http://[a.example"}, False),
        ({"origin": "http://a.example@evil.example"}, False),
        ({"origin": "file://a.example"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),  # another port of this machine
        ({"sec-fetch-site": "anything new"}, False),
    ],
)
def test_requests_of_other_sites_are_recognised(headers, own):
    hosts = allowed_hosts("127.0.0.1", "a.example,outer.example")
    assert from_own_page(headers, [parse_host("a.example")], hosts) is own


@pytest.mark.parametrize(
    ("setting", "peer", "forwarded", "client"),
    [
        ("", "127.0.0.1", "203.0.113.5", "203.0.113.5"),
        ("", "127.0.0.1", "6.6.6.6, 203.0.113.5", "203.0.113.5"),  # nginx adds the last one
        ("", "127.0.0.1", "6.6.6.6, 127.0.0.1", "127.0.0.1"),  # from a client on the proxy's own machine, too
        ("", "::1", "6.6.6.6, [2001:db8::5]:4711", "2001:db8::5"),
        ("", "127.0.0.1", "203.0.113.5:4711", "203.0.113.5"),
        ("", "127.0.0.1", "6.6.6.6, unknown", "127.0.0.1"),
        ("", "127.0.0.1", "", "127.0.0.1"),
        ("", "192.0.2.1", "6.6.6.6", "192.0.2.1"),
        ("10.0.0.0/8", "10.1.1.1", "6.6.6.6, 203.0.113.5, 10.2.2.2", "203.0.113.5"),  # two proxies
        ("10.0.0.0/8", "127.0.0.1", "6.6.6.6", "127.0.0.1"),
        ("*", "192.0.2.1", "6.6.6.6, 203.0.113.5", "203.0.113.5"),
    ],
)
def test_the_client_is_the_last_hop_that_a_trusted_proxy_wrote(setting, peer, forwarded, client):
    assert trusted_proxies(setting).client_address(peer, forwarded) == client


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [("1.1.1.1, 8.8.8.8, 10.0.0.9", "8.8.8.8"), ("", "10.1.2.3"), ("8.8.8.8, x", "10.1.2.3"), ("10.0.0.1", "10.1.2.3")],
)
def test_the_client_behind_the_proxies_of_a_space(forwarded, client):
    assert trusted_proxies("", space=True).client_address("10.1.2.3", forwarded) == client


def request(method: str, path: str, forwarded: str | None = None, **headers: str) -> None:
    """Check a request to a server on this machine. Raises Rejected."""
    given = {"host": "127.0.0.1:7860"} | {name.replace("_", "-"): value for name, value in headers.items()}
    fields = [(name.encode(), value.encode("latin-1")) for name, value in given.items()]
    scope = {"method": method, "path": path, "headers": fields, "root_path": ""}
    check_request(scope, forwarded, allowed_hosts("127.0.0.1", ""))


LINK = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
JSON = "application/json"


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/", {}),
        ("GET", "/", LINK),
        ("GET", "/login/callback", LINK),  # the way back from Hugging Face
        ("GET", "/", LINK | {"sec_fetch_dest": "iframe"}),  # a Space in its frame
        ("GET", "/healthz", LINK | {"sec_fetch_site": "same-site"}),
        ("POST", "/gradio_api/queue/join", {"content_type": "Application/JSON; charset=utf-8"}),
        ("POST", "/gradio_api/upload", {"content_type": "multipart/form-data; boundary=x"}),
        ("POST", "/sign-in", {"content_type": "application/x-www-form-urlencoded", "origin": "http://127.0.0.1:7860"}),
    ],
)
def test_what_the_gate_lets_through(method, path, headers):
    request(method, path, **headers)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/", {"host": "evil.example"}, 403),
        ("GET", "/", {"host": ""}, 400),
        ("GET", "/healthz", {"forwarded": "evil.example"}, 403),
        ("GET", "/", {"origin": EVIL}, 403),
        (
            "GET",
            "/config",
            {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors", "sec_fetch_dest": "script"},
            403,
        ),
        ("GET", "/", LINK | {"sec_fetch_dest": "object"}, 403),
        ("GET", "/gradio_api/queue/data", LINK, 403),
        ("GET", "/downloads/abc", LINK, 403),
        ("OPTIONS", "/gradio_api/queue/join", {"origin": EVIL}, 403),
        ("POST", "/", LINK, 403),
        ("POST", "/gradio_api/component_server", {"content_type": "text/plain"}, 415),
        ("POST", "/gradio_api/component_server", {}, 415),
        ("POST", "/gradio_api/component_server/", {"content_type": "multipart/form-data; boundary=x"}, 415),
        ("POST", "/gradio_api/queue/join", {"content_type": "application/x-www-form-urlencoded"}, 415),
        ("POST", "/gradio_api/run/predict", {"content_type": "application/jsonp"}, 415),
        ("POST", "/gradio_api/upload", {"content_type": "multipart/form-data", "origin": EVIL}, 403),
        ("POST", "/gradio_api/upload", {"content_type": JSON}, 415),
        ("POST", "//gradio_api/queue/join", {"content_type": JSON}, 405),
        ("POST", "/gradio_api/process_recording", {"content_type": JSON}, 404),
        ("POST", "/gradio_api/vibe-edit", {"content_type": JSON}, 404),
        ("PUT", "/gradio_api/queue/join", {"content_type": JSON}, 405),
    ],
)
def test_what_the_gate_refuses(method, path, headers, status):
    with pytest.raises(Rejected) as refused:
        request(method, path, **headers)
    assert refused.value.args[0] == status and refused.value.args[1].endswith(".")


def test_two_hosts_or_two_origins_are_refused():
    own = (b"origin", b"http://localhost")
    for name, value in ((b"host", b"evil.example"), (b"origin", b"http://evil.example")):
        scope = {"method": "GET", "path": "/", "headers": [(b"host", b"localhost"), own, (name, value)]}
        with pytest.raises(Rejected):
            check_request(scope, None, allowed_hosts("127.0.0.1", ""))


def test_who_may_show_the_page_in_a_frame(monkeypatch):
    assert b"frame-ancestors 'self';" in security_headers("")[-1][1]
    assert frame_sources("*.lab.example,[::1],localhost:8888,*") == ["*.lab.example:*", "localhost:8888"]
    monkeypatch.setenv("SPACE_ID", "ann/studio")
    assert b"frame-ancestors 'self' https://huggingface.co;" in security_headers("")[-1][1]


@pytest.fixture(scope="module")
def client(app: App):
    with httpx.Client(base_url=app.url, timeout=60, trust_env=False) as client:
        yield client


def test_a_private_server_refuses_a_rebound_name_and_blind_posts(app, client):
    """Each of these was answered 200 and did what it said."""
    rebound = {"Host": f"evil.example:{app.port}", "Origin": f"http://evil.example:{app.port}"}
    body, jobs = json.dumps(PULL), app.workspace / "jobs"

    def written() -> list[Path]:
        """What a job or an upload leaves. The server's own list and `servers` change at any time after its start."""
        of_jobs = [path for path in jobs.iterdir() if not path.name.startswith(("jobs.sqlite", "servers"))]
        return sorted([*of_jobs, *(app.workspace / "uploads").rglob("*")])

    before = written()
    file = {"files": ("a.txt", b"x", "text/plain")}
    refused = [
        client.get("config", headers=rebound),
        client.post("gradio_api/component_server", content=body, headers=rebound | {"Content-Type": JSON}),
        client.post("gradio_api/component_server", content=body, headers={"Content-Type": "text/plain"}),
        client.post("gradio_api/component_server", content=body),
        client.post("gradio_api/component_server", data={"data": body}),
        client.post("gradio_api/upload", files=file, headers={"Sec-Fetch-Site": "cross-site"}),
        client.post("gradio_api/upload", files=file, headers={"Origin": "http://127.0.0.1:1"}),
        client.options("gradio_api/queue/join", headers={"Origin": EVIL, "Access-Control-Request-Method": "POST"}),
    ]
    assert [said.status_code for said in refused] == [403, 403, 415, 415, 415, 403, 403, 403]
    assert before == written()
    own = client.get("config", headers={"Origin": app.url.rstrip("/")})
    assert own.status_code == 200
    for said in (*refused, own, client.get("no-such-route")):
        assert not any(name.startswith("access-control") for name in said.headers), said.request.url
        assert (
            said.headers["x-content-type-options"] == "nosniff"
            and "frame-ancestors" in said.headers["content-security-policy"]
        )
        assert said.headers["referrer-policy"] == "same-origin"


def test_through_a_tunnel_from_another_port_everything_works(client):
    """`ssh -L 9999:127.0.0.1:7860`: browser and server know different ports."""
    tunnel = {"Host": "localhost:9999", "Origin": "http://localhost:9999", "Sec-Fetch-Site": "same-origin"}
    assert client.get("config", headers=tunnel).status_code == 200
    made = client.post("gradio_api/upload", files={"files": ("a.txt", b"x", "text/plain")}, headers=tunnel)
    assert made.status_code == 200 and len(made.json()) == 1


def test_a_web_socket_is_refused(app, client):
    key = {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version": "13"}
    said = client.get("gradio_api/queue/data", headers=key | {"Connection": "Upgrade", "Upgrade": "websocket"})
    assert said.status_code in (400, 403, 404, 422)
