"""The browser's scripts: ES modules, plotly.js and the example trace as static files under an address that changes with
their content."""

import gzip
import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import plotly
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from lightreasoner.paper import ALPHA, ALPHA_FLOOR, BETA, TEACHES, TIE
from lightreasoner.scoring.measures import MEASURES
from lightreasoner.settings import ASSETS
from lightreasoner.tracing import example
from lightreasoner.tracing.figures import NO_STEPS, kl_figure

FOLDER = ASSETS / "js"
#: The fields of a Measure that the page reads.
SHOWN = ("key", "name", "says", "full", "tuned", "target")
PLOTLY = Path(plotly.__file__).with_name("package_data") / "plotly.min.js"
EXAMPLE = example.FOLDER / f"{example.EXAMPLE}.json"
IMPORT = re.compile(r"^(?:import|export|\}) [^;]*?from '(\.[^']+)';$", re.M)


@cache
def version() -> str:
    """Ten hexadecimal digits that change when a script or plotly.js does, so that no cache mixes two versions."""
    digest = hashlib.sha256(plotly.__version__.encode())
    for path in [*sorted(FOLDER.glob("*/*.js")), EXAMPLE]:
        digest.update(f"{path.parent.name}/{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:10]


def address(name: str) -> str:
    """The address of a script of assets/js, such as "inspect/mount.js", relative to the page."""
    return f"studio/{version()}/{name}"


def engine_constants(public: bool) -> dict:
    """What the scripts read from the engine (assets/js/shared/engine_data.js): the paper's constants, the measures,
    and the figures that the page fills itself."""
    return {
        "paper": {"alpha": ALPHA, "beta": BETA, "alphaFloor": ALPHA_FLOOR, "teaches": TEACHES, "tie": TIE},
        "measures": [{name: getattr(m, name) for name in SHOWN} for m in MEASURES],
        "public": public,
        "example": example.EXAMPLE,
        "figures": {"kl": kl_figure(NO_STEPS, BETA, tuned=True).to_plotly_json()},
    }


def modules_of(name: str) -> list[tuple[str, str]]:
    """A script and all that it imports as (name, text), each after those that it imports."""
    found: dict[str, str] = {}

    def add(path: Path) -> None:
        key = path.relative_to(FOLDER).as_posix()
        if key not in found:
            text = path.read_text(encoding="utf-8")
            for imported in IMPORT.findall(text):
                add((path.parent / imported).resolve())
            found[key] = text

    add((FOLDER / name).resolve())
    return list(found.items())


@cache
def content(name: str) -> tuple[bytes, bytes] | None:
    """A script's bytes, plain and compressed; None where there is none of this name."""
    path = {PLOTLY.name: PLOTLY, EXAMPLE.name: EXAMPLE}.get(name, FOLDER / name)
    if path not in (PLOTLY, EXAMPLE, *FOLDER.glob("*/*.js")):
        return None
    plain = path.read_bytes()
    return plain, gzip.compress(plain, 6)


def scripts_route() -> Route:
    """GET /studio/VERSION/NAME, to be cached for ever; another version than this server's is not found."""

    async def script(request: Request) -> Response:
        asked, name = request.path_params["version"], request.path_params["name"]
        found = await run_in_threadpool(content, name) if asked == version() else None
        if found is None:
            return PlainTextResponse("There is no such script; reload the page.", 404, {"Cache-Control": "no-store"})
        plain, compressed = found
        zipped = "gzip" in request.headers.get("accept-encoding", "")
        headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
        headers |= {"Content-Encoding": "gzip"} if zipped else {}
        headers["X-Content-Type-Options"] = "nosniff"
        kind = "application/json" if name == EXAMPLE.name else "text/javascript"
        return Response(compressed if zipped else plain, headers=headers, media_type=kind)

    return Route("/studio/{version}/{name:path}", script)


def start_script(name: str, owners_only: bool, events: Sequence[str]) -> str:
    """The code that Gradio runs for a component: loads the script and calls its `mount`.

    Gradio provides element, props, trigger, watch and server. A value that changes before the script has come is shown
    when it has. events: that the script triggers; Gradio takes only those whose names stand in the code.
    """
    return (
        f"const start = import(new URL({json.dumps(address('shared/start.js'))}, document.baseURI))"
        f".then(({{ start }}) => start({json.dumps(name)}, {json.dumps(owners_only)},"
        " { element, props, trigger, server }));\n"
        "watch('value', () => start.then((changed) => changed?.()));\n"
        f"// events: {json.dumps(list(events))}"
    )
