"""The adapter's card as HTML that the page can show."""

import re

from markdown_it import MarkdownIt

FRONT_MATTER = re.compile(r"---\n.*?\n---\n", re.DOTALL)
#: Names in a card may be anybody's, so tags are shown as text, and links and images stay what was written.
MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["link", "image", "autolink", "reference"])


def card_html(card: str) -> str:
    """A Markdown card without its front matter, as HTML without live content; headings begin at h3."""
    tokens = MARKDOWN.parse(FRONT_MATTER.sub("", card, count=1) if card.startswith("---\n") else card)
    for token in tokens:
        if token.type.startswith("heading"):
            token.tag = "h3" if token.tag == "h1" else "h4"
    return MARKDOWN.renderer.render(tokens, MARKDOWN.options, {})
