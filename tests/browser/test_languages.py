"""The Chinese pages as a reader meets them: the switch in the header, the theme's own words, the search."""

from browser.search import search


def test_the_switch_leads_to_the_same_page_and_back(open_page):
    """By the button in the header, which speaks the language of the page."""
    page = open_page("quick-start/")
    assert page.locator("html").get_attribute("lang") == "en"
    page.get_by_label("Select language").hover()
    page.get_by_role("link", name="简体中文").click()
    page.wait_for_url("**/zh/quick-start/")
    assert page.locator("html").get_attribute("lang") == "zh"
    page.get_by_label("选择当前语言").hover()
    page.get_by_role("link", name="English", exact=True).click()
    page.wait_for_url(lambda url: url.endswith("/quick-start/") and "/zh/" not in url)


def test_search_finds_chinese_words(open_page):
    """Words within a sentence, which jieba has set apart when the site was built."""
    search(open_page("zh/"), "均方误差", ".md-search-result__link[href*='zh/why-concatenation-fails']")
