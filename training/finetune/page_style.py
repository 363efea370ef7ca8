"""Style sheet of the report, in addition to the common style."""

STYLE = """
:root { --hit:#1f6feb; --miss:#d9480f; --warn:#8a4b00; --warnback:#fff4e0; }
@media (prefers-color-scheme: dark) { :root { --hit:#6ea8fe; --miss:#fb923c; --warn:#ffc56b; --warnback:#33270f; } }
a { color: var(--curve); } h3 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
.lead { font-size: 1.15rem; } .lead b { white-space: nowrap; }
nav { font-size: .9rem; } nav a { display: inline-block; margin-right: 1rem; padding: .2rem 0; }
.warnings { background: var(--warnback); color: var(--warn); border-left: 4px solid; border-radius: .3rem;
  padding: .7rem 1rem; margin: 1rem 0; max-width: 60rem; }
.warnings ul { margin: .2rem 0 0; padding-left: 1.1rem; }
.scroll { margin: .6rem 0; border-radius: .3rem; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: .3rem .7rem; text-align: right; vertical-align: top; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { font-weight: 600; } thead th { color: var(--soft); font-size: .85rem; vertical-align: bottom; }
th:first-child { text-align: left; padding-left: 0; }
tbody th { min-width: 7rem; max-width: 22rem; white-space: normal; overflow-wrap: anywhere; }
table.files td { white-space: normal; min-width: 6rem; max-width: 22rem; overflow-wrap: anywhere; }
table.files tbody th, table.tried tbody th { font-weight: 400; } table.pairs td:nth-child(2) { text-align: left; }
table.words thead th { text-align: left; }
table.words td { text-align: left; white-space: normal; overflow-wrap: anywhere; max-width: 40rem; }
table.words tbody th { font-weight: 400; color: var(--soft); }
.share { display: block; min-width: 4.5rem; padding-right: .3rem; border-radius: 2px;
  background: linear-gradient(to right, color-mix(in srgb, var(--hit) 28%, transparent) var(--w), transparent 0); }
.interval { display: block; width: 14rem; height: .8em; } .interval line { stroke: var(--line); }
.interval .range { stroke: var(--curve); stroke-width: 3; opacity: .45; }
.interval .mean { stroke: var(--curve); stroke-width: 2; }
.interval line { vector-effect: non-scaling-stroke; }
.matrix th, .matrix td { padding: .2rem .3rem; border: 1px solid var(--line); text-align: center; }
.matrix td { min-width: 2.1rem; background: color-mix(in srgb, var(--miss) var(--s, 0%), var(--paper)); }
.matrix td.hit { background: color-mix(in srgb, var(--hit) var(--s, 0%), var(--paper)); }
.matrix thead td { min-width: 7rem; vertical-align: bottom; color: var(--soft); font-size: .8rem;
  background: var(--paper); position: sticky; left: 0; }
.matrix thead span { display: inline-block; max-height: 9rem; max-width: 12rem; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; }
.matrix.many thead span { writing-mode: vertical-rl; transform: rotate(180deg); }
.matrix tbody th { text-align: right; color: var(--soft); font-size: .85rem; padding-left: .3rem; max-width: 11rem;
  position: sticky; left: 0; background: var(--paper); white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.photos { display: grid; gap: .9rem .7rem; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr));
  padding: 0; margin: .8rem 0; list-style: none; max-width: 60rem; }
.photos figcaption { font-size: .82rem; line-height: 1.35; color: var(--ink); margin-top: .25rem; }
.photos small { display: block; color: var(--soft); font-size: .75rem; }
.photos img, .missing { display: block; width: 100%; height: auto; aspect-ratio: 1; border-radius: .4rem; }
.missing { display: grid; place-content: center; text-align: center; padding: .4rem; background: var(--card);
  color: var(--soft); font-size: .8rem; border: 1px dashed var(--soft); }
.clip { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 3; overflow: hidden; }
pre { background: var(--card); border-radius: .4rem; padding: .7rem .9rem; margin: .4rem 0; overflow-x: auto;
  font: .85rem/1.45 ui-monospace, monospace; tab-size: 4; user-select: all; -webkit-user-select: all; }
code { font: .92em ui-monospace, monospace; } pre code { font: inherit; }
details { border-top: 1px solid var(--line); } details:last-of-type { border-bottom: 1px solid var(--line); }
summary { cursor: pointer; padding: .55rem 0; font-weight: 600; }
details > p { margin: 0 0 .4rem; } details > :last-child { margin-bottom: 1rem; }
footer { margin-top: 3rem; color: var(--soft); font-size: .85rem; }
@media (max-width: 34rem) { th, td { padding: .3rem .35rem; } table { font-size: .85rem; }
  .figures b { font-size: 1.2rem; }
  .figures { gap: .4rem; } .figures li { padding: .4rem .6rem; flex: 1 1 8rem; } tbody th { min-width: 5.5rem; }
  .matrix tbody th { max-width: 6rem; } .photos { grid-template-columns: repeat(auto-fill, minmax(6rem, 1fr)); }
  .share { min-width: 3rem; } .interval { width: 9rem; } thead th { white-space: normal; }
  pre { font-size: .78rem; padding: .6rem; } }
"""
