"""The page of every report: one HTML file that loads nothing and follows the reader's theme."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from sealkd_jax.files import make_directory, replacing
from sealkd_jax.plots.panels import PANELS, Run
from sealkd_jax.plots.style import COLOURS, to_png, to_svg


def _variables(theme: int) -> str:
    return " ".join(f"--{name}: {values[theme]};" for name, values in COLOURS.items())


NOTHING_FROM_OUTSIDE = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

THEMES = f""":root {{ color-scheme: light dark; {_variables(0)} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_variables(1)} }} }}"""

STYLE = """
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: clamp(1.4rem, 1.1rem + 1.6vw, 2.1rem); line-height: 1.2;
  margin: 0 0 .6rem; letter-spacing: -.01em; text-wrap: balance; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 3rem 0 1rem; padding-top: 1rem; border-top: 1px solid var(--grid); }
p { max-width: 46rem; margin: .5rem 0; }
.lead { font-size: 1.08rem; }
.muted, figcaption { color: var(--muted); font-size: .9rem; }
pre { margin: 1rem 0; padding: .7rem .9rem; border: 1px solid var(--grid); border-radius: 6px;
  font: .84rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .38rem 1.1rem .38rem 0;
  border-bottom: 1px solid var(--grid); vertical-align: top; }
th { font-weight: 500; color: var(--muted); }
td { overflow-wrap: anywhere; }
.number { text-align: right; white-space: nowrap; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr));
  gap: 2rem 2.5rem; margin-top: 1.2rem; }
figure { margin: 0; min-width: 0; max-width: 36rem; }
figure svg { display: block; width: 100%; height: auto; max-height: 46rem; overflow: visible;
  stroke-linejoin: round; stroke-linecap: butt; }
figcaption { margin-top: .5rem; max-width: 46rem; }
.examples { list-style: none; margin: 1rem 0 0; padding: 0; display: grid; gap: 1.2rem 2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); }
.examples > li { display: flex; gap: .9rem; align-items: flex-start; }
.examples img { width: 96px; height: 96px; object-fit: contain; image-rendering: pixelated;
  flex: none; background: #000; }
.examples ul { list-style: none; margin: .2rem 0 0; padding: 0; font-size: .88rem; line-height: 1.5;
  display: flex; flex-wrap: wrap; column-gap: .9rem; }
.examples span { color: var(--muted); }
.examples .teacher { flex-basis: 100%; }
.right { color: var(--green); }
.wrong { color: var(--vermilion); }
details { margin-top: 1rem; }
summary { cursor: pointer; color: var(--muted); }
"""


def table(rows: Iterable[Sequence[object]], header: Sequence[str] = ()) -> str:
    """An HTML table, escaped. The first cell of a row is its heading; with a header, the others are numbers."""
    kind = ' class="number"' if header else ""
    cells = [
        f"<tr><th scope=row>{escape(str(name))}</th>"
        + "".join(f"<td{kind}>{escape(str(value))}</td>" for value in values)
        + "</tr>"
        for name, *values in rows
    ]
    head = "".join(f"<th scope=col{kind if k else ''}>{escape(name)}</th>" for k, name in enumerate(header))
    head = f"<thead><tr>{head}</tr></thead>" if header else ""
    return f'<div class="scroll"><table>{head}<tbody>{"".join(cells)}</tbody></table></div>'


def section(heading: str, source: Run | Mapping[str, Any], directory: Path, html: str = "") -> str:
    """A heading, then `html` as it is, then the figures registered under the heading as inline SVG.

    Args:
        source: a `Run` or a `comparison.json`, of which the figures are drawn.
        directory: each figure is also written there, as `plots/NAME.png`.

    Returns:
        "" if there is neither HTML nor a figure.
    """
    figures = []
    for name, panel in PANELS.items():
        if panel.section != heading or (inputs := panel.inputs(source)) is None:
            continue
        figure, caption = panel.draw(**inputs), escape(panel.caption)
        with replacing(make_directory(directory / "plots") / f"{name}.png") as partial:
            partial.write_bytes(to_png(figure))
        svg = to_svg(figure, name, caption)
        figures.append(f'<figure id="{name}">{svg}<figcaption>{caption}</figcaption></figure>')
    if not html and not figures:
        return ""
    grid = f'<div class="panels">{"".join(figures)}</div>' if figures else ""
    return f"<section><h2>{escape(heading)}</h2>{html}{grid}</section>"


def write_page(directory: Path, title: str, lead: str, body: str) -> Path:
    """Write `report.html` into the directory. `title` and `lead` are escaped, `body` is HTML."""
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{NOTHING_FROM_OUTSIDE}">'
        f"<title>{escape(title)}</title><style>{THEMES}{STYLE}</style></head><body><main>"
        f'<header><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p></header>'
        f"{body}</main></body></html>\n"
    )
    path = directory / "report.html"
    with replacing(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return path
