"""Style sheet and colors of the report's page."""

from typing import Any

from . import paper

FAMILIES = tuple(paper.TITLES)  # each has its own color, the same in all charts: --f0, --f1, ...
STYLE = """
:root { --paper:#fff; --ink:#1b1f24; --soft:#5b6470; --line:#dfe3e8; --card:#f6f7f9; --warn:#8a4b00;
  --warnback:#fff4e0;
  --f0:#1f6feb; --f1:#c2410c; --f2:#0f766e; --f3:#7c3aed; --f4:#6b7280;
  --o0:#1f6feb; --o1:#b45309; --o2:#0f766e; --o3:#be185d; --o4:#7c3aed; --o5:#4d7c0f; --o6:#0891b2; --o7:#a16207;
  --o8:#6b7280; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --paper:#14171b; --ink:#e6e9ee; --soft:#9aa4b2; --line:#2c333d;
  --card:#1b2027; --warn:#ffc56b; --warnback:#33270f;
  --f0:#6ea8fe; --f1:#fb923c; --f2:#2dd4bf; --f3:#b794f6; --f4:#9aa4b2;
  --o0:#6ea8fe; --o1:#fbbf24; --o2:#2dd4bf; --o3:#f472b6; --o4:#b794f6; --o5:#a3e635; --o6:#22d3ee; --o7:#facc15;
  --o8:#9aa4b2; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: .5rem 0; } h2 { font-size: 1.3rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1.1rem; margin: 2rem 0 .5rem; } h4 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p, li { max-width: 44rem; } .soft, figcaption { color: var(--soft); font-size: .9rem; }
.kind { display: inline-block; font-size: .8rem; font-weight: 600; border: 1px solid var(--line); border-radius: 1rem;
  padding: .1rem .6rem; vertical-align: middle; color: var(--soft); }
.warnings { background: var(--warnback); color: var(--warn); border-left: 4px solid; padding: .6rem 1rem; margin:
  1rem 0;
  overflow-wrap: anywhere; }
.warnings ul { margin: .2rem 0; padding-left: 1.1rem; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .2rem 1.5rem; background:
  var(--card);
  border-radius: .5rem; padding: .8rem 1rem; margin: 1rem 0; }
dl div { overflow-wrap: anywhere; } dt { color: var(--soft); font-size: .8rem; } dd { margin: 0; font-size: .95rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size:
  .95rem; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { font-weight: 600; font-size: .85rem; color: var(--soft); } td:first-child, th:first-child, td.word, th.word {
  text-align: left; }
tr.budget th { text-align: left; padding-top: 1rem; color: var(--ink); } .paper { color: var(--soft); }
th[scope=colgroup] { text-align: center; } .whole { white-space: nowrap; }
.mark { display: inline-block; width: .7rem; height: .7rem; border-radius: 50%; margin-right: .4rem; }
figure { margin: 1rem 0; } svg { display: block; width: 100%; max-width: 40rem; height: auto; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; } svg .soft { fill: var(--soft); font-size: 12px; }
  figcaption { margin-top: .5rem; }
.bars { display: grid; grid-template-columns: max-content 1fr; gap: .15rem .8rem; align-items: center; font-size:
  .9rem; }
.bars .name { grid-row: span 1; } .track { display: flex; align-items: center; gap: .4rem; min-width: 0; }
.bar { height: .9rem; border-radius: 2px; display: flex; overflow: hidden; flex: none; } .bar i { display: block; }
.value { font-variant-numeric: tabular-nums; font-size: .8rem; color: var(--soft); white-space: nowrap; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .85rem; margin: .5rem 0; padding: 0;
  list-style: none; }
summary { cursor: pointer; color: var(--soft); } footer { margin-top: 3rem; color: var(--soft); font-size: .85rem; }
@media (max-width: 34rem) { table { font-size: .8rem; } th, td { padding: .3rem .2rem; } th { font-size: .75rem; }
  dl { grid-template-columns: 1fr 1fr; }
  td:first-child { white-space: normal; } .bars { grid-template-columns: 1fr; } .bars .name {
  margin-top: .4rem; } }
"""


def family_index(line: dict[str, Any]) -> int:
    """Returns the index of the color of a summary line's network; the last color is for other networks."""
    return FAMILIES.index(line["arch"]) if line.get("arch") in FAMILIES else len(FAMILIES)


def color_dot(index: int, palette: str = "f") -> str:
    """Returns a colored dot for legends and tables.

    Args:
        index: Index of the color.
        palette: `f` for families of networks, `o` for kinds of ops.
    """
    return f'<span class="mark" style="background:var(--{palette}{index})"></span>'
