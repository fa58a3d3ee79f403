"""Rewrites the HTML in a response as the Markdown and LaTeX that it stands for; `<answer>` and unknown tags stay."""

import html
import re

_NAME = "b|strong|i|em|u|s|del|strike|code|pre|tt|kbd|span|font|mark|small|big|center|div|p|br|hr|ul|ol|li|h[1-6]|table"
_NAME += "|thead|tbody|tr|td|th|blockquote|details|summary|section|article|a|img|sup|sub"
#: A known tag, with attributes or none: “x <b and c> d” is no tag.
_TAG = re.compile(
    rf"<(?P<end>/?)(?P<name>{_NAME})(?:\s+[\w:-]+\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s<>\"']+))*\s*/?>", re.I
)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[\da-f]{1,6}|[a-z]{2,8}\d{0,2});", re.IGNORECASE)
_FRACTION = re.compile(r"<sup>\s*(-?\d+)\s*</sup>\s*(?:/|⁄|&frasl;)\s*<sub>\s*(\d+)\s*</sub>", re.IGNORECASE)
_RAISED = re.compile(r"<(?P<name>sup|sub)>\s*(?P<text>[^<>]{1,60}?)\s*</(?P=name)>", re.IGNORECASE)
_STRUCK = re.compile(r"<(del|s|strike)>[^<>]{0,300}</\1>|~~[^~\n]{1,300}~~", re.IGNORECASE)
_BREAKS = re.compile("p|div|br|hr|ul|ol|li|h[1-6]|table|tr|blockquote|details|summary|section|article")


def without_html(text: str) -> str:
    """<b>18</b> → **18**, 10<sup>3</sup> → 10^{3}, &times; → ×, <br> → a new line. What is struck out is left out."""
    if "<" not in text and "&" not in text and "~~" not in text:
        return text
    text = _STRUCK.sub(" ", text)
    text = _FRACTION.sub(r" \1/\2", text)
    text = _RAISED.sub(_raised, text)
    text = _TAG.sub(_in_markdown, text)
    return _ENTITY.sub(lambda found: html.unescape(found.group()), text)


def _raised(found: re.Match) -> str:
    if re.fullmatch("st|nd|rd|th|er|e|o|a", found["text"]):  # 1<sup>st</sup>
        return found["text"]
    return ("^" if found["name"].lower() == "sup" else "_") + "{" + found["text"] + "}"


def _in_markdown(found: re.Match) -> str:
    name = found["name"].lower()
    if name in ("b", "strong"):
        return "**"
    if name == "li" and not found["end"]:
        return "\n- "
    return "\n" if _BREAKS.fullmatch(name) else " " if name in ("td", "th") else ""
