"""The documentation site: it builds without a warning, and what it links to is there, offline too."""

import importlib
import inspect
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[1]
PUBLIC = ("", ".losses", ".data", ".models", ".training", ".report")


class Page(HTMLParser):
    """What a page links to or fetches, and its anchors."""

    def __init__(self, path):
        super().__init__()
        self.links, self.fetched, self.anchors = [], [], set()
        self.text = path.read_text()
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors.add(attrs.get("id"))
        if tag == "a" and "href" in attrs:
            self.links.append(attrs["href"])
        if "src" in attrs or (tag == "link" and attrs.get("rel") in ("stylesheet", "icon")):
            self.fetched.append(attrs.get("src") or attrs["href"])


pytestmark = pytest.mark.slow  # the site is built


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Path -> page of the whole site, built as `mkdocs build --strict` builds it: a warning is an error."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return {path: Page(path) for path in out.rglob("*.html") if path.name != "404.html"}


def test_links_and_anchors_resolve(site):
    broken = []
    for path, page in site.items():
        for link in page.links + page.fetched:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists() or (parts.fragment and unquote(parts.fragment) not in site[target].anchors):
                broken.append(f"{path}: {link}")
    assert broken == []
    assert len(site) > 20 and sum(len(page.links) for page in site.values()) > 1000


def test_links_to_the_repository_name_what_is_in_it(site):
    links = {link for page in site.values() for link in page.links}
    found = [re.search(r"/(blob|tree)/main/([^#]+)", link) for link in links if "/sealkd-jax/" in link]
    paths = [(match[1], ROOT / match[2]) for match in found if match]
    assert paths and all(path.is_dir() if kind == "tree" else path.is_file() for kind, path in paths)


def test_nothing_is_fetched_from_elsewhere(site):
    assert [link for page in site.values() for link in page.fetched if urlsplit(link).netloc] == []


def test_formulas_are_drawn(site):
    """As MathML, without a command that the converter passed on as text, or a dollar that it did not see."""
    formulas = [math for page in site.values() for math in re.findall(r"<math.*?</math>", page.text, re.DOTALL)]
    assert len(formulas) > 100
    assert [math for math in formulas if "\\" in re.sub(r"<[^>]*>", "", math)] == []
    prose = [re.sub(r"<(code|pre|script|style)\b.*?</\1>", "", page.text, flags=re.DOTALL) for page in site.values()]
    assert [text for text in prose if "$" in text or "\\(" in text] == []


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_in_the_reference(site, module):
    anchors = {anchor for page in site.values() for anchor in page.anchors if anchor}
    documented = {anchor.rpartition(".")[2] for anchor in anchors if anchor.startswith("sealkd_jax.")}
    package = importlib.import_module(f"sealkd_jax{module}")
    names = [name for name in package.__all__ if not inspect.ismodule(getattr(package, name))]
    assert names and [name for name in names if name not in documented] == []


def test_every_page_has_one_title(site):
    titles = [len(re.findall(r"<h1[ >]", page.text)) for page in site.values()]
    assert set(titles) == {1}
