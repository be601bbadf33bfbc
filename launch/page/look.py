"""How the page looks and refreshes: its style sheet, its script, and the policy that lets nothing else run.

The page may load nothing and run only this script: the policy names the hash of the one and of the other, so a script
or a style that came in with the name of a run would not be used even if it were not escaped.
"""

import base64
import hashlib

from fitting.report.html import CSS as REPORT_CSS
from launch.goodput import PARTS

# Of sizes, from the smallest to the largest: on white, the colours of the report's figures; on black, dark to light.
_ON_WHITE = ("#7cc6d6", "#3a86b7", "#27408b", "#170f4d")
_ON_BLACK = ("#2c6e9b", "#4aa3d0", "#93ccf2", "#eef6ff")
SHADES = 8
ROW = 33  # pixels: about the height of a row of a table


def _shades(stops: tuple[str, ...]) -> str:
    """CSS variables --k0 to --k7, between the colours of `stops`."""
    rgb, variables = [[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in stops], []
    for shade in range(SHADES):
        at = shade / (SHADES - 1) * (len(rgb) - 1)
        i = min(int(at), len(rgb) - 2)
        mixed = [round(a + (b - a) * (at - i)) for a, b in zip(rgb[i], rgb[i + 1], strict=True)]
        variables.append(f"--k{shade}: #{bytes(mixed).hex()};")
    return " ".join(variables)


CSS = (
    REPORT_CSS
    + f"""
:root {{ color-scheme: light dark; --paper: #fff; --shade: #f5f7f9; --track: #e4e8ec; --strong: #b8c0c8;
  --cyan: #2483a8; --yellow: #a86a00; --target: #d1495b; --star: #b07700; {_shades(_ON_WHITE)}
  --productive: #2a7f62; --compile: #7a5ab5; --data_wait: #c98a1b; --evaluation: #3a86b7; --checkpoint: #5f7f95;
  --restart: #b08968; --lost: #d1495b; --idle: #c3cad1; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e3e8ee; --muted: #97a3b0; --line: #2b333c; --red: #ff8b8b;
  --green: #63c7a2; --paper: #12161b; --shade: #1a2027; --track: #2b333c; --strong: #4a5561; --cyan: #63bfe0;
  --yellow: #e5b25a; --target: #ff7f90; --star: #f2b134; {_shades(_ON_BLACK)}
  --productive: #4fae8b; --compile: #a58be0; --data_wait: #e0a94b; --evaluation: #5fa8d8; --checkpoint: #8aa4b5;
  --restart: #c9a585; --lost: #ff7f90; --idle: #4a5561; }} }}
"""
    + """
body { background: var(--paper); overflow-wrap: break-word; }
main { max-width: 1120px; }
h2 { margin-top: 36px; }
a { color: var(--cyan); }
th { border-bottom-color: var(--strong); }
.target td { background: none; }
.old { color: var(--red); font-weight: 600; }
.green { color: var(--green); } .cyan { color: var(--cyan); } .yellow { color: var(--yellow); }
.red { color: var(--red); } .dim { color: var(--muted); }
.counts { display: flex; flex-wrap: wrap; gap: 4px 20px; padding: 0; list-style: none; }
.counts b { font-size: 20px; font-variant-numeric: tabular-nums; }
.bar { display: block; width: 100%; height: 14px; background: var(--track); border-radius: 3px; }
.mini .bar { height: 8px; margin-top: 6px; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 18px; padding: 0; list-style: none; font-size: 14px; }
.legend li { margin: 0; }
.legend i { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 6px; }
.rungs { display: grid; grid-template-columns: fit-content(45%) 1fr; gap: 6px 14px; font-size: 14px; }
.rungs > b { font-weight: 600; font-variant-numeric: tabular-nums; }
.rungs > b, .legend, .counts, h1, h3, summary { overflow-wrap: anywhere; }
.rungs div { display: flex; flex-wrap: wrap; gap: 3px; }
.rungs div i { width: 22px; height: 22px; border-radius: 3px; background: currentColor; position: relative; }
.many div i { width: 11px; height: 11px; border-radius: 2px; }
.rungs i.dim { background: var(--track); }
.chart { margin: 12px 0 4px; }
.chart figcaption { color: var(--muted); font-size: 14px; margin-bottom: 8px; }
.plot { display: grid; grid-template: 280px 22px / 46px 1fr; }
.plot svg { width: 100%; height: 100%; overflow: visible; }
.plot text { font-size: 12px; fill: var(--muted); }
.y { grid-area: 1 / 1; } .area { grid-area: 1 / 2; } .x { grid-area: 2 / 2; }
.y text { text-anchor: end; transform: translateX(-8px); }
.x text.middle { text-anchor: middle; } .x text.last { text-anchor: end; }
.axis { text-align: center; color: var(--muted); font-size: 14px; margin: 0 0 0 46px; max-width: none; }
.area path { fill: none; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
.area .grid { stroke: var(--line); stroke-width: 1px; }
.area .curve { stroke-width: 1.3px; opacity: .9; } .many .curve { stroke-width: 1px; opacity: .55; }
.area .dot { stroke-width: 6px; stroke-linecap: round; } .many .dot { stroke-width: 3.5px; opacity: .8; }
.area .band { fill: var(--target); opacity: .22; stroke: none; }
.area .mean { stroke: var(--target); stroke-width: 1.8px; }
.area .forecast { stroke: var(--target); stroke-width: 7px; stroke-linecap: round; }
.area .measured { stroke: var(--star); stroke-width: 1.6px; stroke-dasharray: 5 4; }
details { border-top: 1px solid var(--line); } summary { cursor: pointer; padding: 8px 0; }
summary b { margin-right: 12px; }
.runs { table-layout: fixed; margin: 0 0 8px; }
.runs td, .runs th { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.runs td.why { white-space: normal; color: var(--muted); font-size: 13px; padding-top: 0; overflow-wrap: anywhere; }
.runs tr.more td { border-bottom: none; padding-bottom: 0; }
.runs .c1 { width: 26%; } .runs .c2 { width: 10%; } .runs .c3 { width: 14%; } .runs .c4 { width: 7%; }
.runs .c6 { width: 16%; padding-left: 20px; }
.later { content-visibility: auto; }
"""
    + "".join(f".r{tens} {{ contain-intrinsic-size: auto {tens * 10 * ROW}px; }}\n" for tens in range(1, 6))
    + "".join(f".k{i} {{ stroke: var(--k{i}); background: var(--k{i}); }}\n" for i in range(SHADES))
    + "".join(
        f".bar .p{i} {{ fill: var(--{part}); }} .legend .p{i} {{ background: var(--{part}); }}\n"
        for i, part in enumerate(PARTS)
    )
    + """
@media (max-width: 700px) {
  main { padding: 20px 14px 60px; }
  h1 { font-size: 24px; } .lead { font-size: 16px; }
  .plot { grid-template-rows: 230px 22px; }
  .wide { display: none; }
  .runs .c1 { width: 46%; } .runs .c2 { width: 22%; } .runs .c4 { width: 14%; } .runs .c5 { width: 18%; }
  .runs td, .runs th { padding-right: 6px; } .runs td.c1 { white-space: normal; overflow-wrap: anywhere; }
}
"""
)

# Before the page loads itself again it notes which line of it is at the top of the window, how far, and which parts are
# open: positions in pixels would not do, because the browser has not laid out what it has not shown yet.
SCRIPT = """
(() => {
  const said = document.getElementById("written"), every = +said.dataset.every, key = "ladder:" + location.pathname;
  const places = () => [...document.querySelectorAll("h1,h2,p,figure,tr,summary,ul")];
  const parts = () => [...document.querySelectorAll("details")];
  const keep = (value) => { try { sessionStorage.setItem(key, JSON.stringify(value)); } catch {} };
  let kept = null;
  try { kept = JSON.parse(sessionStorage.getItem(key)); } catch {}
  history.scrollRestoration = "manual";
  if (kept) {
    parts().forEach((part, i) => { if (i in kept.open) part.open = kept.open[i]; });
    const place = places()[kept.place];
    for (let i = 0; place && kept.y > 0 && i < 3; i++) scrollBy(0, place.getBoundingClientRect().top - kept.top);
  }
  addEventListener("pagehide", () => {
    const all = places(), place = all.findIndex((one) => one.getBoundingClientRect().bottom > 0 && one.offsetParent);
    const top = place < 0 ? 0 : all[place].getBoundingClientRect().top;
    keep({ y: scrollY, place, top, open: parts().map((part) => part.open) });
  });
  if (!every) return;
  const age = Date.now() / 1000 - said.dataset.written;
  if (age > 60 + 5 * every) {
    said.className = "old";
    said.append(" Nothing has written it for " + Math.round(age / 60) + " minutes: is ladder still running?");
  }
  const again = () => {
    if (document.hidden || String(getSelection())) setTimeout(again, 1000);
    else location.reload();
  };
  setTimeout(again, 1000 * Math.max(1, every));
})();
"""


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY = f"default-src 'none'; style-src {_hash(CSS)}; script-src {_hash(SCRIPT)}; base-uri 'none'; form-action 'none'"
