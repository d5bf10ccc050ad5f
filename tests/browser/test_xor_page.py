"""The XOR page in a browser: what it says is what pairfuse says, by mouse, touch and keys, in every dress."""

import gzip
import random
from pathlib import Path

import pytest
import torch

import pairfuse as pf

PAGE = "why-concatenation-fails/"
SCHEMES = ("light", "dark")
WIDTHS = (360, 1280)


def margin_of(name, widget):
    a, b = (torch.tensor(widget.position(handle)) for handle in "ab")
    return pf.xnor_margin(name, a, b).item()


def test_concat_is_never_separable(open_widget):
    """At 20 drawn positions."""
    widget, draw = open_widget(), random.Random(0)
    for _ in range(20):
        a, b = ([draw.randint(-16, 16) / 8 for _ in "xy"] for _ in "ab")
        widget.drag("a", *a)
        widget.drag("b", *b)
        assert {tuple(widget.position("a")), tuple(widget.position("b"))} == {tuple(a), tuple(b)}
        assert widget.verdict().startswith("✕ Not separable")
        assert sum("wrong" in row[3] for row in widget.table()) == 1


def test_product_flips_exactly_where_the_embeddings_are_collinear(open_widget):
    """And where one is 0; one step beside it, it is separable again."""
    widget = open_widget()
    widget.choose("product")
    widget.put("a", 0.5, 0.75)
    widget.put("b", 0.625, 1.5)
    seen = {}
    while (x := widget.position("b")[0]) < 1.5:
        seen[x] = widget.separable()
        assert seen[x] == (margin_of("product", widget) > 0)
        widget.page.keyboard.press("ArrowRight")
    assert [x for x, separable in seen.items() if not separable] == [1.0]
    widget.put("b", 0, 0)
    assert not widget.separable()


def test_every_margin_is_that_of_pairfuse(open_widget):
    widget = open_widget()
    widget.drag("a", 1.25, -0.5)
    for name in widget.fusions():
        if name == "bilinear":  # here the outer product, which tests/test_xor_maths.py knows
            continue
        widget.choose(name)
        due = margin_of(name, widget)
        assert widget.separable() == (due > 0)
        assert (widget.margins() or [0])[0] == pytest.approx(due, abs=5.1e-4)


def test_a_margin_that_is_nearly_nothing_is_written_out(open_widget):
    """Not as 0.00 beside "separable": two digits, and the signs of the logits."""
    widget = open_widget()
    widget.choose("cosine")
    widget.put("a", 2, 1.875)
    widget.put("b", 1.875, 2)
    assert widget.separable()
    margin, relative = widget.margins()
    assert margin == pytest.approx(margin_of("cosine", widget), rel=0.05)
    assert 0 < relative < 0.02
    assert [row[2][0] for row in widget.table()] == ["+", "+", "−", "−"]
    assert all(float(row[2].replace("−", "-")) != 0 for row in widget.table())
    assert "learning will be slow" in widget.page.locator(".xor").inner_text()


def test_the_cross_of_concat_grows_with_the_distance(open_widget):
    """Its form stays, wherever the embeddings are; a picture that did not move would seem broken."""
    widget = open_widget()
    lengths = []
    for x in (1.25, 1.75):
        widget.put("a", x, 0.25)
        ends = [widget.page.locator(".xor-segment.xor-same").get_attribute(name) for name in ("x1", "y1", "x2", "y2")]
        x1, y1, x2, y2 = map(float, ends)
        lengths.append(((x1 - x2) ** 2 + (y1 - y2) ** 2) ** 0.5)
    assert lengths[1] > 1.1 * lengths[0]


def test_a_head_on_moved_pairs_says_so(open_widget):
    """The loss beside the step is then no longer that at the end of the curve."""
    widget = open_widget()
    widget.choose("product")
    widget.train()
    progress = widget.page.locator(".xor-progress")
    assert "moved" not in progress.inner_text()
    widget.handle("a").focus()
    widget.page.keyboard.press("ArrowUp")
    assert "(This head, on the moved pairs.)" in progress.inner_text()


def test_training(open_widget):
    """The loss of concat sticks at ln 2, that of product and abs-diff falls; the trained head then answers rightly."""
    widget = open_widget()
    assert widget.train() == 0.693
    assert all(abs(float(row[4]) - 0.5) < 0.02 for row in widget.table())
    for name in ("product", "abs-diff"):
        widget.choose(name)
        assert widget.train() < 0.1
        assert [float(row[4]) > 0.5 for row in widget.table()] == [True, True, False, False]
    assert widget.page.locator(".xor-past").count() == 2  # the curve of the fusion before, and its name
    widget.page.get_by_role("button", name="Reset").click()
    assert widget.page.locator(".xor-loss").count() == 0


def test_training_stops_and_goes_on(open_widget):
    widget = open_widget()
    button = widget.page.locator(".xor-main")
    button.click()
    widget.page.wait_for_function("document.querySelector('.xor-progress').textContent.startsWith('Step ')")
    button.click()
    assert button.inner_text() == "Train"
    halted = widget.page.locator(".xor-progress").inner_text()
    widget.page.wait_for_timeout(100)
    assert widget.page.locator(".xor-progress").inner_text() == halted
    assert widget.train() == 0.693


def test_no_motion_where_none_is_wanted(open_widget):
    """Training is then one jump; with every fusion its loss ends on the side that the margin foretells."""
    widget = open_widget(reduced_motion="reduce")
    for name in widget.fusions():
        widget.choose(name)
        widget.page.locator(".xor-main").click()
        assert widget.page.evaluate(AFTER_TWO_FRAMES).startswith("Step 1000,")
        loss = widget.loss()
        assert (loss < 0.1) == widget.separable()
        assert loss <= 0.693


def test_keys_move_a_handle(open_widget):
    """By an eighth, with Shift by a half, not beyond the plane; and the change is spoken."""
    widget = open_widget()
    handle = widget.handle("a")
    handle.focus()
    assert "arrow keys" in handle.get_attribute("aria-label")
    for key in ("ArrowUp", "ArrowLeft", "Shift+ArrowRight"):
        widget.page.keyboard.press(key)
    assert widget.position("a") == [1.375, 0.375]
    assert widget.page.locator(".xor [aria-live]").inner_text().startswith("concat: Not separable")
    for _ in range(5):
        widget.page.keyboard.press("Shift+ArrowRight")
    assert widget.position("a") == [2, 0.375]
    widget.page.keyboard.press("Tab")
    assert widget.handle("b").evaluate("handle => handle === document.activeElement")


def test_everything_can_be_reached_with_the_tab_key(open_widget):
    widget = open_widget()
    widget.page.locator(".xor-chips input").first.focus()
    reached = []
    for _ in range(10):
        reached.append(widget.page.evaluate("document.activeElement.textContent || document.activeElement.value"))
        widget.page.keyboard.press("Tab")
    assert reached == [
        "concat",
        *widget.page.locator(".xor-presets button").all_inner_texts(),
        "a",
        "b",
        "Train",
        "Reset",
    ]


def test_a_finger_moves_a_handle_and_not_the_page(open_widget):
    widget = open_widget(has_touch=True, is_mobile=True, viewport={"width": 360, "height": 640})
    widget.handle("b").scroll_into_view_if_needed()
    touch = widget.page.context.new_cdp_session(widget.page)

    def send(kind, *points):
        points = [dict(zip("xy", widget.place_on_screen(*point), strict=True)) for point in points]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    before = widget.page.evaluate("scrollY")
    send("touchStart", widget.position("b"))
    for step in range(1, 9):
        send("touchMove", (0.25 - step / 8, 1 - step / 8))
    send("touchEnd")
    assert widget.position("b") == [-0.75, 0]
    assert widget.page.evaluate("scrollY") == before


def test_examples(open_widget):
    """Each does what its name says: all but the common offset cannot be told apart, and that one hardly."""
    widget = open_widget()
    relative = {}
    for button in widget.page.locator(".xor-presets button").all():
        button.click()
        relative[button.inner_text()] = widget.margins()[1] if widget.separable() else 0
    assert relative.pop("common offset") == pytest.approx(0.004, abs=5e-4)
    assert set(relative.values()) == {0}


AFTER_TWO_FRAMES = """() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(
    () => done(document.querySelector(".xor-progress").textContent))))"""
CONTRASTS = (Path(__file__).parent / "contrasts.js").read_text()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_both_schemes_and_widths(open_widget, scheme, width):
    """No sideways scrolling, and contrast as WCAG 2 AA asks it: 4.5 for text, 3 for what is drawn."""
    widget = open_widget(color_scheme=scheme, viewport={"width": width, "height": 800})
    body = widget.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (body == "rgb(255, 255, 255)") == (scheme == "light")
    for name in ("concat", "product", "mou"):
        widget.choose(name)
        assert widget.page.evaluate("document.documentElement.scrollWidth") == width
        assert widget.page.evaluate(
            "[...document.querySelectorAll('.xor *')].every(x => x.getBoundingClientRect().right <= innerWidth)"
        )
        contrasts = widget.page.evaluate(CONTRASTS)
        assert len(contrasts) > 50
        assert not [(what, ratio) for what, ratio, least in contrasts if ratio < least]


def test_without_scripts_there_is_a_picture(open_page):
    page = open_page(PAGE, java_script_enabled=False)
    still = page.locator(".xor img")
    assert still.is_visible()
    assert still.bounding_box()["width"] > 400
    assert len(still.get_attribute("alt")) > 20
    assert page.locator(".xor button").count() == 0


def test_the_page_weighs_less_than_500_kb(open_page, browser, address):
    """All of it as a server sends it, compressed; and, but for the index of the search, uncompressed too."""
    context = browser.new_context()
    page, answers = context.new_page(), {}
    page.on("requestfinished", lambda request: answers.__setitem__(request.url, request.response()))
    page.goto(f"{address}/{PAGE}", wait_until="networkidle")
    page.wait_for_selector(".xor-live")
    bodies = {url.removeprefix(address): answer.body() for url, answer in answers.items()}
    context.close()
    weights = {url: len(body) for url, body in bodies.items()}
    assert sum(len(gzip.compress(body)) for body in bodies.values()) < 500_000
    assert {f"/{PAGE}", "/xor/maths.mjs", "/images/fused_pairs.png"} <= set(weights)
    assert sum(weight for url, weight in weights.items() if url != "/search/search_index.json") < 500_000, weights
