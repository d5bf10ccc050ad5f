"""The site, built and served on this machine, and a browser that can reach nothing else.

Needs `pip install -e ".[browser]"` and Chromium (`apt-get install chromium`); without them these tests are skipped, or
fail where PAIRFUSE_REQUIRE_BROWSER is set.
"""

import functools
import http.server
import shutil
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import pytest
from browser.widget import Widget
from needs import skip_for_want_of

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 600_000  # milliseconds until a step counts as hung: no measure of speed
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """These tests are slow: they build the site and start a browser."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the built site."""
    if not all(find_spec(package) for package in ("mkdocs", "material", "mkdocstrings")):
        skip_for_want_of('mkdocs is not installed: pip install -e ".[browser]"')
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    build = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert build.returncode == 0, build.stdout + build.stderr
    return folder


@pytest.fixture(scope="package")
def address(site):
    """Where the site is served, until the browser's tests are over."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="package")
def browser():
    """Headless Chromium."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not find_spec("playwright"):
        skip_for_want_of('playwright is not installed: pip install -e ".[browser]"')
    if chromium is None:
        skip_for_want_of("Chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, address):
    """Opens a page of the site in a window of its own; nothing may go wrong on it, nor leave this machine."""
    contexts, complaints = [], []

    def failed(request):
        if request.failure != "net::ERR_ABORTED":  # which only says that the page was left
            complaints.append(f"{request.url}: {request.failure}")

    def open_page(path, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("console", lambda message: message.type in ("error", "warning") and complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", failed)
        context.on("request", lambda request: request.url.startswith(address) or complaints.append(request.url))
        page.goto(f"{address}/{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints


@pytest.fixture
def open_widget(open_page):
    """Opens the interactive picture of the XOR page."""

    def open_widget(**options):
        page = open_page("why-concatenation-fails/", **options)
        page.wait_for_selector(".xor-live")
        return Widget(page)

    return open_widget
