"""The style of the page: light and dark by the reader's setting, and wide tables that scroll on a phone."""

STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1c2126; --soft: #5a646e; --line: #d5dbe1; --ground: #ffffff; --band: #f5f7f9;
  --loss: #b3261e; --star: #8a5a00;
  --c0: #1565c0; --c1: #c2410c; --c2: #0f766e; --c3: #8e3aa8; --c4: #7a6000; --c5: #b0245a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e4e8ec; --soft: #9aa5b0; --line: #39424b; --ground: #14181c; --band: #1c2126;
    --loss: #ff8a80; --star: #f2c14e;
    --c0: #6cb2ff; --c1: #ff9a5c; --c2: #4fd1b5; --c3: #d79bf0; --c4: #dcc04a; --c5: #ff8fb3;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 110rem;
  background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
}
h1 { font-size: 1.5rem; margin: 0 0 1rem; }
h3 { font-size: 1.1rem; margin: 1.5rem 0 .5rem; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)); gap: 1rem; }
.panels figure { margin: 0; }
.panel text { font-size: 12px; }
.curve { fill: none; stroke: var(--mark); stroke-width: 1; stroke-opacity: .7; }
h2 { font-size: 1.1rem; margin: 1.5rem 0 .5rem; color: var(--loss); }
figure { margin: 0 0 1.5rem; max-width: 50rem; }
figcaption, .notes { color: var(--soft); font-size: .875rem; }
.wide { overflow-x: auto; border-block: 1px solid var(--line); }
table { border-collapse: collapse; width: 100%; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .5rem; text-align: left; vertical-align: top; white-space: nowrap; }
th { border-bottom: 1px solid var(--line); vertical-align: bottom; white-space: normal; }
tbody tr:nth-child(even) { background: var(--band); }
.right { text-align: right; }
.center { text-align: center; }
.front { color: var(--star); }
.loss, .failed { color: var(--loss); }
td.left:not(:first-child) { white-space: normal; min-width: 6rem; }
td.failed { white-space: normal; overflow-wrap: anywhere; }
.notes { padding-left: 1.25rem; overflow-wrap: anywhere; }
.plot { display: block; width: 100%; height: auto; }
.plot text { fill: var(--soft); font-size: 15px; }
.grid, .frame { fill: none; stroke: var(--line); }
.frame { stroke: var(--soft); }
.c0 { --mark: var(--c0); } .c1 { --mark: var(--c1); } .c2 { --mark: var(--c2); }
.c3 { --mark: var(--c3); } .c4 { --mark: var(--c4); } .c5 { --mark: var(--c5); }
.stairs { fill: none; stroke: var(--mark); stroke-width: 2; stroke-opacity: .6; }
.point { fill: var(--ground); stroke: var(--mark); stroke-width: 2; }
.point.front { fill: var(--mark); }
.point:hover { stroke-width: 5; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; margin: .25rem 0; padding: 0; }
.legend li { overflow-wrap: anywhere; }
.key { width: 14px; height: 14px; vertical-align: -1px; overflow: visible; }
@media (max-width: 40rem) { .plot text { font-size: 24px; } }
"""
