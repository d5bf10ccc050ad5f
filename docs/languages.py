"""The two languages of the site: the settings of the pages in `docs/zh`, and the language switch in the header.

One build makes both languages, with one search and one reference. A Chinese page has the name of its English
counterpart. On a page without a counterpart, the switch leads to the home page of the other language.
"""

import copy
import re
from typing import Any

CHINESE = "zh/"
NAMES = {"en": "English", "zh": "简体中文"}
SCHEMES = {"en": ("Dark", "Light"), "zh": ("深色", "浅色")}
ENGLISH_PAGES = "英文文档"
TITLES = {
    "Permanent link": "永久链接",
    "Jump back to footnote": "回到正文中的脚注",
    " in the text": "",
}  # Markdown's own
CJK, MARKS = "\u4e00-\u9fff", "，。：；？！、“”（）"
BREAK = re.compile(rf"(?<=[{MARKS}])\n *(?![\s#|>-]|\d+\. )|(?<=[{CJK}])\n *(?=[{CJK}{MARKS}])")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Remove line breaks within Chinese paragraphs, which Markdown would turn into spaces."""
    return BREAK.sub("", markdown) if language_of(page.file.src_uri) == "zh" else markdown


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Translate the link titles that Markdown extensions generate in English."""
    if language_of(page.file.src_uri) == "en":
        return html
    return re.sub(r'title="[^"]*"', lambda title: _translated(title[0]), html)


def _translated(text: str) -> str:
    for english, chinese in TITLES.items():
        text = text.replace(english, chinese)
    return text


def on_page_context(context: dict[str, Any], page: Any, config: Any, nav: Any) -> dict[str, Any]:
    """Set the language, the switch and the navigation before a page is rendered."""
    language = language_of(page.file.src_uri)
    config.theme["language"] = language
    config.extra["alternate"] = alternates(page.file.src_uri, {other.file.src_uri: other.url for other in nav.pages})
    config.extra["homepage"] = next(link["link"] for link in home_links(nav) if link["lang"] == language)
    for scheme, name in zip(config.theme["palette"], SCHEMES[language], strict=True):
        scheme["toggle"]["name"] = name
    context["nav"] = copy.copy(nav)
    context["nav"].items = items_for(language, nav.items)
    return context


def on_post_page(output: str, **_: Any) -> str:
    """Remove the theme's `alternate` links from the head; its script expects a whole site behind each of them."""
    return re.sub(r'<link rel="alternate"[^>]* hreflang="[^>]*>\s*', "", output)


def language_of(path: str) -> str:
    """Return the language of a page from its path in `docs`."""
    return "zh" if path.startswith(CHINESE) else "en"


def home_links(nav: Any) -> list[dict[str, str]]:
    """Return the links to the home page of each language."""
    return alternates("index.md", {page.file.src_uri: page.url for page in nav.pages})


def alternates(path: str, urls: dict[str, str]) -> list[dict[str, str]]:
    """Return the theme's `extra.alternate`: the same page in each language, or the home page if there is none."""
    name = path.removeprefix(CHINESE)
    paths = {"en": [name, "index.md"], "zh": [CHINESE + name, CHINESE + "index.md"]}
    links = {lang: next(urls[path] for path in candidates if path in urls) for lang, candidates in paths.items()}
    return [{"name": NAMES[lang], "link": link or ".", "lang": lang} for lang, link in links.items()]


def items_for(language: str, items: list[Any]) -> list[Any]:
    """Return the navigation: English pages list English pages; Chinese pages list Chinese pages first."""
    (chinese,) = [item for item in items if item.title == NAMES["zh"]]
    english = [item for item in items if item is not chinese]
    if language == "en":
        return english
    below = copy.copy(chinese)
    below.title, below.children = ENGLISH_PAGES, english
    return [*chinese.children, below]
