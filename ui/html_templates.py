"""HTML from the Jinja2 templates in assets/templates."""

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lightreasoner.settings import ASSETS

_TEMPLATES = Environment(loader=FileSystemLoader(ASSETS / "templates"), autoescape=True, undefined=StrictUndefined)
_TEMPLATES.policies["json.dumps_kwargs"] = {}  # `tojson` keeps the order of keys; it escapes "<" in texts


def render(name: str, **values: object) -> str:
    """The template assets/templates/NAME.html with these values. Every value is escaped unless it is Markup."""
    return _TEMPLATES.get_template(f"{name}.html").render(values)


def asset(folder: str, name: str) -> Markup:
    """The text of a script or a stylesheet of our own, to be put into a template as it is."""
    return Markup((ASSETS / folder / name).read_text(encoding="utf-8"))
