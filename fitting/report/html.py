"""A self-contained HTML page: sections, figures and tables without links to anything outside it."""

import base64
import io
from html import escape

CSS = """
:root { --ink: #1f2933; --muted: #6b7785; --line: #e4e8ec; --red: #b83246; --green: #1f6b52; }
body { margin: 0; background: #fff; color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 960px; margin: 0 auto; padding: 40px 24px 80px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 16px; }
h2 { font-size: 20px; margin: 48px 0 12px; padding-top: 20px; border-top: 1px solid var(--line); }
p { max-width: 74ch; }
.lead { font-size: 18px; }
.note, .caption { color: var(--muted); font-size: 14px; }
img { width: 100%; height: auto; display: block; margin: 12px 0; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(380px, 1fr)); gap: 8px 16px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; margin: 12px 0; width: 100%; }
h3 { font-size: 16px; margin: 24px 0 4px; }
th { text-align: left; color: var(--muted); font-weight: 600; vertical-align: bottom; }
th { border-bottom: 1px solid #b8c0c8; }
th, td { padding: 5px 11px 5px 0; }
td { border-bottom: 1px solid var(--line); vertical-align: top; }
td:first-child { white-space: nowrap; }
.n { text-align: right; white-space: nowrap; }
.yes { color: var(--green); font-weight: 600; } .no { color: var(--red); font-weight: 600; }
.target td { background: #fdf3f4; }
code, pre { font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, monospace; }
pre { background: #f5f7f9; padding: 12px 16px; border-radius: 6px; overflow-x: auto; }
p, code { overflow-wrap: anywhere; }
ul { padding-left: 20px; } li { margin: 4px 0; }
"""


def page(title: str, parts: list[str]) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head>\n<body><main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main></body></html>\n"
    )


def section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def figure(figure, alt: str) -> str:
    """An <img> that holds the figure as SVG."""
    from fitting.report.style import style  # matplotlib, which a page without figures does not need

    out = io.BytesIO()
    with style():
        figure.savefig(out, format="svg", metadata={"Date": None})
    return f'<img alt="{escape(alt)}" src="data:image/svg+xml;base64,{base64.b64encode(out.getvalue()).decode()}">'
