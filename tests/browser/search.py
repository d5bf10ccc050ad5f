"""The site's search, as a reader uses it."""


def search(page, query, found, tries=60):
    """Type a query until something that matches `found` is there: a page that still loads does not listen yet.

    It gives up after ten minutes, which no loaded machine needs.
    """
    field = page.locator("[data-md-component=search-query]")
    for _ in range(tries):
        field.fill("")
        field.press_sequentially(query)
        for _ in range(20):
            page.wait_for_timeout(500)
            if page.locator(found).count() > 0:
                return
    raise AssertionError(f"the search for {query!r} found no {found}")
