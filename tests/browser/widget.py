"""The interactive picture of the XOR page, as a reader uses it."""

import re

REACH = 2 * 1.15  # the plane shows so much to each side
TRAINED = "document.querySelector('.xor-progress').textContent.startsWith('Step 1000,')"


class Widget:
    """Buttons, handles and what they show."""

    def __init__(self, page):
        self.page = page

    def choose(self, fusion):
        self.page.locator(f".xor-chips input[value={fusion}]").check(force=True)

    def fusions(self):
        return [chip.get_attribute("value") for chip in self.page.locator(".xor-chips input").all()]

    def handle(self, name):
        return self.page.locator(f".xor-handle.xor-{name}")

    def position(self, name):
        text = self.handle(name).get_attribute("aria-valuetext").replace("−", "-")
        return [float(number) for number in text.split(", ")]

    def place_on_screen(self, x, y):
        """Where a point of the plane is, in pixels of the window."""
        box = self.page.locator(".xor figure > svg").first.bounding_box()
        return (
            box["x"] + box["width"] * (x + REACH) / (2 * REACH),
            box["y"] + box["height"] * (REACH - y) / (2 * REACH),
        )

    def drag(self, name, x, y):
        """By mouse."""
        self.handle(name).scroll_into_view_if_needed()
        self.page.mouse.move(*self.place_on_screen(*self.position(name)))
        self.page.mouse.down()
        self.page.mouse.move(*self.place_on_screen(x, y), steps=2)
        self.page.mouse.up()

    def put(self, name, x, y):
        """By the arrow keys."""
        self.handle(name).focus()
        here = self.position(name)
        for way, keys in ((x - here[0], ("ArrowLeft", "ArrowRight")), (y - here[1], ("ArrowDown", "ArrowUp"))):
            for _ in range(round(abs(way) * 8)):
                self.page.keyboard.press(keys[way > 0])
        assert self.position(name) == [x, y]

    def separable(self):
        return self.page.locator(".xor-verdict").get_attribute("data-separable") == "true"

    def verdict(self):
        return self.page.locator(".xor-verdict").inner_text()

    def margins(self):
        """The margin and the relative margin, as they are written."""
        return [float(number) for number in re.findall(r"\d+\.\d+", self.verdict())]

    def table(self):
        return [row.inner_text().split("\t") for row in self.page.locator(".xor tbody tr").all()]

    def train(self):
        """To the end; gives the loss."""
        self.page.locator(".xor-main").click()
        self.page.wait_for_function(TRAINED)
        return self.loss()

    def loss(self):
        return float(re.search(r"loss ([\d.]+)\.", self.page.locator(".xor-progress").inner_text())[1])
