"""What MkDocs is told beside mkdocs.yml: the repository's own files as pages, links to files, mathematics, examples."""

import posixpath
import re
import tomllib
from html import unescape
from pathlib import Path
from typing import Any

import griffe
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
SOURCES = {page: path for path, page in PAGES.items()}


def on_config(config: MkDocsConfig) -> None:
    """The repository's address stands in pyproject.toml alone."""
    config.repo_url = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    config.repo_name = config.repo_url.removeprefix("https://github.com/")


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Pages that are files elsewhere: those of `PAGES`, and each Python file in docs, as its code."""
    for path, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text()))
    for code in [file for file in files if file.inclusion.is_included() and file.src_uri.endswith(".py")]:
        files.remove(code)
        text = f"# {posixpath.basename(code.src_uri)}\n\n```python\n{code.content_string}```\n"
        files.append(File.generated(config, f"{code.src_uri.removesuffix('.py')}.md", content=text))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as they work on a code host, made to work in the site: to a page, or to the file in the repository."""
    here = page.file.src_uri
    source = SOURCES.get(here, f"docs/{here}")

    def address(link: re.Match[str]) -> str:
        path, _, anchor = link[1].partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if ":" in link[1] or link[1].startswith("#") or not (ROOT / path).exists():
            return link[0]  # MkDocs complains where it should
        if inside := _page_of(path, files):
            found = posixpath.relpath(inside, posixpath.dirname(here))
        else:
            found = f"{config.repo_url}/{'tree' if (ROOT / path).is_dir() else 'blob'}/main/{path}"
        return f"]({found}#{anchor})" if anchor else f"]({found})"

    return re.sub(r"\]\(([^()\s]+)\)", address, markdown)


def _page_of(path: str, files: Files) -> str | None:
    """Where a file or folder of the repository is in the site."""
    if path in PAGES or not path.startswith("docs/"):
        return PAGES.get(path)
    name = path.removeprefix("docs/")
    pages = (name, f"{name}/README.md", f"{name.removesuffix('.py')}.md")
    return next((page for page in pages if files.get_file_from_path(page)), None)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """TeX becomes MathML, which browsers draw themselves: no script, and nothing is fetched from elsewhere."""

    def mathml(tex: re.Match[str]) -> str:
        math = convert(unescape(tex["inline"] or tex["display"]), display="inline" if tex["inline"] else "block")
        return re.sub(r"<(m[io])>([a-z]{2,})</\1>", r'<mo lspace="0.1em" rspace="0.1em">\2</mo>', math)  # log, softmax

    tex = r'<(span|div) class="arithmatex">(\\\((?P<inline>.+?)\\\)|\\\[(?P<display>.+?)\\\])</\1>'
    return re.sub(tex, mathml, html, flags=re.DOTALL)


class Examples(griffe.Extension):
    """Doctests are code in Markdown too: each paragraph that begins with a prompt is fenced."""

    def on_object(self, *, obj: griffe.Object, loader: griffe.GriffeLoader, **_: Any) -> None:
        if obj.docstring:
            text = re.sub(r"^( *)(>>> (?:.+\n?)+)", _fenced, obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = text


def _fenced(doctest: re.Match[str]) -> str:
    indent, code = doctest.groups()
    code = re.sub(r"  # doctest: .*", "", code.rstrip("\n"))
    return f"{indent}```pycon\n{indent}{code}\n{indent}```\n"
