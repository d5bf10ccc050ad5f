"""The order of the documentation: every page is listed and says what it is for, and the two languages agree."""

import importlib
import re
from types import SimpleNamespace

import pytest
from documents import ROOT, load

import pairfuse as pf

DOCS = ROOT / "docs"
languages = load("languages")
PAGES = sorted(page.relative_to(DOCS).as_posix() for page in DOCS.glob("**/*.md") if page.parent.name != "results")
CHINESE = [page for page in PAGES if page.startswith("zh/")]
FUSIONS = pf.list_fusions()  # before any page registers its own
FENCE = re.compile(r"^```(\w*)\n.*?^```$", re.MULTILINE | re.DOTALL)


def text_of(page):
    """A page without its front matter."""
    return re.sub(r"\A---\n.*?^---\n", "", (DOCS / page).read_text(), flags=re.MULTILINE | re.DOTALL).strip()


def headings(page):
    """Level and anchor of every heading; the anchor is written beside it, or made of its words as Markdown does."""
    found = []
    for marks, title in re.findall(r"^(#+) (.*)$", FENCE.sub("", text_of(page)), re.MULTILINE):
        written = re.search(r"\{#([\w-]+)\}$", title)
        words = re.sub(r"[^\w\s-]", "", title.encode("ascii", "ignore").decode().replace("`", "")).strip().lower()
        found.append((len(marks), written[1] if written else re.sub(r"[\s-]+", "-", words)))
    return found


def test_the_navigation_lists_every_page():
    """By its path, once."""
    listed = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(listed) == PAGES


@pytest.mark.parametrize("table", ["certificate_agreement", "digits"])
def test_a_table_of_all_fusions_names_each_of_them(table):
    """After a fusion is added, rerun the script that prints the table."""
    text = (DOCS / "results" / f"{table}.md").read_text()
    assert re.findall(r"^\| `(.*?)` \|", text, re.MULTILINE) == FUSIONS


@pytest.mark.parametrize("page", PAGES)
def test_a_page_says_what_it_is_for(page):
    """After the title comes a paragraph; where the page is that of a module, the module's docstring."""
    text = text_of(page)
    if shown := re.match(r'--8<-- "(.*)"', text):
        text = (ROOT / shown[1]).read_text()
    title, first = text.split("\n\n")[:2]
    assert title.startswith("# ")
    if module := re.match(r"::: (\S+)", first):
        first = importlib.import_module(module[1]).__doc__
    assert re.match(r"[^\W\d_`]", first), first
    assert len(first) >= (20 if page in CHINESE else 40)


@pytest.mark.parametrize("page", CHINESE)
def test_both_languages_have_the_same_code_and_headings(page):
    """Code, output and shell commands to the letter, headings by their anchors, and what else a page shows."""
    english = page.removeprefix("zh/")
    blocks = [[block[0] for block in FENCE.finditer(text_of(name))] for name in (page, english)]
    assert blocks[0] == blocks[1]
    assert headings(page) == headings(english)
    for shown in (r'^--8<-- "(.*)"$', r"\]\((?:\.\./)*(images/\S+)\)", r"(\[\^[\w-]+\])", r"^(</?div.*)$"):
        of_page, of_english = (re.findall(shown, text_of(name), re.MULTILINE) for name in (page, english))
        assert sorted(of_page) == sorted(of_english)
    assert len(re.findall(r"[\u4e00-\u9fff]", text_of(page))) > 300


def test_home_quick_start_and_xor_are_there_in_chinese():
    assert {"zh/index.md", "zh/quick-start.md", "zh/why-concatenation-fails.md"} <= set(CHINESE)


def test_the_switch_leads_to_the_same_page_or_to_the_other_home():
    urls = {"index.md": "", "a.md": "a/", "b.md": "b/", "zh/index.md": "zh/", "zh/a.md": "zh/a/"}

    def links(page):
        return {link["lang"]: link["link"] for link in languages.alternates(page, urls)}

    assert links("a.md") == links("zh/a.md") == {"en": "a/", "zh": "zh/a/"}
    assert links("b.md") == {"en": "b/", "zh": "zh/"}
    assert links("zh/index.md") == {"en": ".", "zh": "zh/"}


def test_a_page_is_rendered_in_its_language():
    """The theme's language, the switch, the home and the lists of pages, whatever page was rendered before."""
    pages = {
        path: SimpleNamespace(url=path, file=SimpleNamespace(src_uri=path)) for path in ("index.md", "zh/index.md")
    }
    chinese = SimpleNamespace(title="简体中文", children=["of the Chinese"])
    nav = SimpleNamespace(pages=list(pages.values()), items=[SimpleNamespace(title="Home"), chinese])
    toggles = [{"toggle": {"name": "Dark"}}, {"toggle": {"name": "Light"}}]
    config = SimpleNamespace(theme={"language": "en", "palette": toggles}, extra={})

    def rendered(path):
        return languages.on_page_context({}, page=pages[path], config=config, nav=nav)["nav"].items

    first, below = rendered("zh/index.md")
    assert (first, below.title, below.children) == ("of the Chinese", "英文文档", nav.items[:1])
    assert (config.theme["language"], config.extra["homepage"]) == ("zh", "zh/index.md")
    assert toggles == [{"toggle": {"name": "深色"}}, {"toggle": {"name": "浅色"}}]
    assert rendered("index.md") == nav.items[:1]
    assert (config.theme["language"], config.extra["homepage"]) == ("en", "index.md")
    assert toggles == [{"toggle": {"name": "Dark"}}, {"toggle": {"name": "Light"}}]
    assert chinese.title == "简体中文"


def test_links_that_markdown_makes_speak_chinese():
    html = '<a title="Permanent link">¶</a><a title="Jump back to footnote 2 in the text">in the text</a>'
    page = SimpleNamespace(file=SimpleNamespace(src_uri="zh/a.md"))
    translated = '<a title="永久链接">¶</a><a title="回到正文中的脚注 2">in the text</a>'
    assert languages.on_page_content(html, page) == translated
    page.file.src_uri = "a.md"
    assert languages.on_page_content(html, page) == html


def test_line_breaks_within_chinese_paragraphs_leave_no_space():
    """Those that Markdown needs stay: before a list, a heading, a table, and between paragraphs."""
    page = SimpleNamespace(file=SimpleNamespace(src_uri="zh/a.md"))
    source = "中文，\n再来\n一行 x\ny。\n`z`\n\n- 甲；\n  乙\n- 丙。\n\n1. 丁。\n2. 戊。\n\n## 己\n"
    joined = "中文，再来一行 x\ny。`z`\n\n- 甲；乙\n- 丙。\n\n1. 丁。\n2. 戊。\n\n## 己\n"
    assert languages.on_page_markdown(source, page) == joined
    page.file.src_uri = "a.md"
    assert languages.on_page_markdown(source, page) == source


def test_the_head_names_no_other_site():
    head = '<link rel="alternate" href="zh/" hreflang="zh">\n<link rel="icon" href="a.png">'
    assert languages.on_post_page(head) == '<link rel="icon" href="a.png">'
