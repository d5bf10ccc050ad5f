"""The site's search, as a reader uses it."""

from playwright.sync_api import TimeoutError as NotYet


def search(page, query, found, tries=8):
    """Type a query until something that matches `found` is there: a page that still loads does not listen yet."""
    for _ in range(tries):
        page.locator("[data-md-component=search-query]").fill("")
        page.locator("[data-md-component=search-query]").press_sequentially(query)
        try:
            page.locator(found).first.wait_for(state="attached", timeout=10_000)
        except NotYet:
            continue
        return page.locator(found).first
    raise AssertionError(f"the search for {query!r} found no {found}")
