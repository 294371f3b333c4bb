"""The site of the documentation: it builds without a warning, and a real browser shows it, on a telephone too."""

import functools
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from mamlcli.config.reference import key_tables
from tests.browser import chromium
from tests.conftest import ROOT
from tests.pages import DOCS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PHONE, DESKTOP = {"width": 360, "height": 740}, {"width": 1280, "height": 900}
# The least contrast of texts by the Web Content Accessibility Guidelines 2.1, 1.4.3, level AA.
LEAST_CONTRAST = 4.5
# How light a text and what is behind it are, by the same guidelines (relative luminance), and what that makes.
CONTRASTS = """
() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].map(x => x / 255);
  };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const behind = node => {
    const own = rgba(getComputedStyle(node).backgroundColor);
    return own[3] == 1 || !node.parentElement ? own : over(own, behind(node.parentElement));
  };
  const light = c => c.slice(0, 3).map(x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)
    .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
  return ["p", "a[href]:not(.headerlink)", "code", "td", "h2", "pre code"].flatMap(kind => {
    const node = document.querySelector("article " + kind);
    if (!node) return [];
    const below = behind(node), text = over(rgba(getComputedStyle(node).color), below);
    const [dark, bright] = [light(below), light(text)].sort((a, b) => a - b);
    return [[kind, (bright + 0.05) / (dark + 0.05)]];
  });
}
"""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; one for all processes that tests run in."""
    shared = tmp_path_factory.getbasetemp()
    folder = (shared.parent if os.environ.get("PYTEST_XDIST_WORKER") else shared) / "site"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
            quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
            done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
    return folder


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Silent, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Of this module alone: a process has one Playwright at a time."""
    with chromium() as opened:
        yield opened


class Visit:
    """A page of a browser that hears of what goes wrong, and of requests to anywhere else."""

    def __init__(self, browser: "Browser", address: str, *, viewport: dict[str, int], dark: bool = False) -> None:
        scheme = "dark" if dark else "light"
        self.address, self.wrong = address, list[str]()
        self.page: Page = browser.new_page(viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]
        self.page.set_default_timeout(20_000)
        self.page.on("console", lambda said: self._note(said.type, said.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        # What was under way when a page was left is no failure; what is not there is an error in the console.
        self.page.on("requestfailed", lambda request: self._note_failure(request.url, request.failure or ""))
        self.page.on("request", lambda request: self._check(request.url))

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.wrong.append(text)

    def _note_failure(self, url: str, why: str) -> None:
        if "ERR_ABORTED" not in why:
            self.wrong.append(f"{url}: {why}")

    def _check(self, url: str) -> None:
        if not url.startswith((self.address, "data:", "blob:")):
            self.wrong.append(f"another machine is asked: {url}")

    def open(self, path: str) -> "Page":
        self.page.goto(self.address + path)
        return self.page


def all_pages(site: Path) -> list[str]:
    return sorted(str(page.parent.relative_to(site)) for page in site.rglob("index.html"))


def test_the_site_has_a_page_for_each_source_and_every_key_of_a_config(site: Path) -> None:
    assert len(all_pages(site)) == len(list(DOCS.rglob("*.md")))
    said = (site / "reference" / "config" / "index.html").read_text("utf-8")
    assert [key for table in key_tables() for key, _, _ in table.rows if f">{key}<" not in said] == []
    texts = {page: page.read_text("utf-8") for page in site.rglob("index.html")}
    assert not [page for page, text in texts.items() if "<!-- made:" in text or r"\|" in text]
    assert not (site / "hooks.py").exists()


def test_no_page_is_wider_than_a_telephone_and_none_asks_another_machine(
    site: Path, address: str, browser: "Browser"
) -> None:
    visit = Visit(browser, address, viewport=PHONE)
    for path in all_pages(site):
        page = visit.open(path)
        root = "document.documentElement"
        assert page.evaluate(f"{root}.scrollWidth") <= page.evaluate(f"{root}.clientWidth"), path
    assert visit.wrong == []


def test_a_reader_goes_from_the_first_page_to_a_guide(address: str, browser: "Browser") -> None:
    visit = Visit(browser, address, viewport=DESKTOP)
    page = visit.open("")
    page.get_by_role("navigation", name="Tabs").get_by_role("link", name="Guides").click()
    page.wait_for_url("**/guides/")
    page.get_by_role("link", name="maml check-grads").first.click()
    page.wait_for_url("**/guides/check-grads/")
    assert page.get_by_role("heading", level=1).inner_text().startswith("maml check-grads")
    assert visit.wrong == []


def test_on_a_telephone_the_navigation_opens(address: str, browser: "Browser") -> None:
    visit = Visit(browser, address, viewport=PHONE)
    page = visit.open("")
    link = page.get_by_role("link", name="Tutorial", exact=True).first
    page.locator("label.md-header__button[for=__drawer]").first.click()
    link.click()
    page.wait_for_url("**/tutorial/")
    assert visit.wrong == []


def test_the_search_finds_a_key(address: str, browser: "Browser") -> None:
    visit = Visit(browser, address, viewport=DESKTOP)
    page = visit.open("")
    page.locator("input.md-search__input").click()
    page.keyboard.type("max_grad_norm", delay=10)
    page.locator("a.md-search-result__link[href*='reference/config']").first.wait_for()
    assert visit.wrong == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_texts_can_be_read(address: str, browser: "Browser", dark: bool) -> None:
    visit = Visit(browser, address, viewport=DESKTOP, dark=dark)
    for path in ("", "tutorial/", "guides/train/", "reference/config/", "reference/python/", "comparison/"):
        page = visit.open(path)
        scheme = page.evaluate("document.body.dataset.mdColorScheme")
        assert scheme == ("slate" if dark else "default")
        assert [kind for kind in page.evaluate(CONTRASTS) if kind[1] < LEAST_CONTRAST] == [], path


def test_the_reader_changes_to_dark_and_it_stays(address: str, browser: "Browser") -> None:
    visit = Visit(browser, address, viewport=DESKTOP)
    page = visit.open("")
    page.locator("label[title='Switch to dark mode']").click()
    page.goto(address + "tutorial/")
    assert page.evaluate("document.body.dataset.mdColorScheme") == "slate"
    assert visit.wrong == []
