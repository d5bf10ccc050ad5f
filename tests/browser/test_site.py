"""Every page of the built site: nothing goes wrong, nothing leaves the machine, every link leads somewhere."""

from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from browser.search import search

BASE = "http://site/"
WIDER_THAN_THE_WINDOW = "document.documentElement.scrollWidth > window.innerWidth"


class Parts(HTMLParser):
    """The anchors, links and images of a page."""

    def __init__(self, html):
        super().__init__()
        self.anchors, self.links, self.alts = set(), [], {}
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors.update(given[key] for key in ("id", "name") if given.get(key))
        self.links += [given[key] for key in ("href", "src") if given.get(key)]
        if tag == "img":
            self.alts[given["src"]] = given.get("alt")


def pages_of(site):
    """Path to contents, of every page but the one for what is not found."""
    pages = {
        path.relative_to(site).as_posix(): path for path in sorted(site.rglob("*.html")) if path.name != "404.html"
    }
    return {name.removesuffix("index.html"): Parts(path.read_text()) for name, path in pages.items()}


def test_every_page_loads_and_fits(site, address, open_page):
    """No error on the console, no request to another machine (`open_page` sees to both); no sideways scrolling."""
    too_wide = []
    page = open_page("")
    for path in pages_of(site):
        page.set_viewport_size({"width": 1280, "height": 800})  # before loading: widening slides the menus in
        page.goto(f"{address}/{path}")
        if page.locator(".xor").count():
            page.wait_for_selector(".xor-live")
        for width in (1280, 360):
            page.set_viewport_size({"width": width, "height": 800})
            if page.evaluate(WIDER_THAN_THE_WINDOW):
                too_wide.append((path, width))
    assert not too_wide


def test_every_link_and_anchor_resolves(site):
    pages, broken = pages_of(site), []
    assert len(pages) > 20
    for path, parts in pages.items():
        for link in parts.links:
            target, anchor = urldefrag(urljoin(BASE + path, link))
            if not target.startswith(BASE):
                continue
            there = unquote(urlsplit(target).path).lstrip("/")
            if there in pages:
                if anchor and unquote(anchor) not in pages[there].anchors | {"__skip"}:
                    broken.append((path, link))
            elif not (site / there).is_file():
                broken.append((path, link))
    assert not broken


def test_every_picture_has_words(site):
    """An alternative text that says what there is to see."""
    alts = {(path, src): alt for path, parts in pages_of(site).items() for src, alt in parts.alts.items()}
    assert alts
    assert not [where for where, alt in alts.items() if not alt or len(alt) < 20]


def test_search_finds_a_fusion(open_page):
    """With the site's own index."""
    search(open_page(""), "abs-diff", ".md-search-result__item:has-text('abs-diff')")


def test_search_finds_what_a_reader_would_type(open_page):
    """XOR leads to its page first; a call is found by its name; a number is one word."""
    link = ".md-search-result__link"
    search(open_page(""), "xor", f"li:first-child > {link}[href*='why-concatenation-fails']")
    search(open_page(""), "diagnose", f"{link}[href*='stuck']")
    search(open_page(""), "0.693", f"{link}[href*='why-concatenation-fails']")
