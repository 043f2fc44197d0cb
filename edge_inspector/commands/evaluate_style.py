"""How the page of an evaluation looks: in light and in the dark, on a phone, a wide screen and paper."""

from __future__ import annotations

LIGHT = """--page: #fbfaf8; --card: #fff; --text: #1f2328; --soft: #626a73; --line: #e3e0da; --good: #1a7f4b;
  --bad: #c0392b; --warn: #9a6700; --warned: #fff7e0; --heat: 37 99 168; --c0: #2563a8; --c1: #d9730d; --c2: #2a8a4a;
  --c3: #b0387a; --c4: #7a5cc2; --c5: #8a6d1c; --c6: #0f8b8d; --c7: #c0392b"""
DARK = """--page: #14171a; --card: #1c2024; --text: #e6e8ea; --soft: #9aa4ae; --line: #31373d; --good: #4cc38a;
  --bad: #ff7b6b; --warn: #e3b341; --warned: #2b2512; --heat: 90 160 235; --c0: #6cabf0; --c1: #f5a25d; --c2: #5fc98a;
  --c3: #ef83b8; --c4: #b19cf2; --c5: #d4b45c; --c6: #56c7c9; --c7: #ff7b6b"""
SERIES = "\n".join(
    f".c{n} .line {{ stroke: var(--c{n}) }} .c{n} rect, .c{n} circle {{ fill: var(--c{n}) }} "
    f".legend .c{n} i {{ border-color: var(--c{n}) }}"
    for n in range(8)
)
STYLE = f"""
:root {{ color-scheme: light dark; {LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {DARK} }} }}
* {{ box-sizing: border-box }}
body {{ margin: 0 auto; max-width: 1120px; padding: 2rem 1.1rem 4rem; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; -webkit-text-size-adjust: 100% }}
h1 {{ font-size: 1.75rem; line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere }}
h2 {{ font-size: 1.2rem; margin: 2.6rem 0 .3rem }}
p {{ margin: .3rem 0 .8rem; max-width: 72ch }}
.soft, small {{ color: var(--soft) }}
.tiles, .two, .worst {{ display: grid; gap: .8rem }}
.tiles {{ grid-template-columns: repeat(auto-fit, minmax(min(47%, 122px), 1fr)); margin: 1.3rem 0 }}
.two {{ grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); align-items: start; margin: .8rem 0 }}
.worst {{ grid-template-columns: repeat(auto-fill, minmax(min(100%, 320px), 1fr)); align-items: start }}
.tile, .card {{ background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .8rem .9rem }}
.tile b {{ display: block; font-size: 1.6rem; line-height: 1.25; font-variant-numeric: tabular-nums }}
.tile small {{ display: block; line-height: 1.35 }}
.good b {{ color: var(--good) }}
.bad b {{ color: var(--bad) }}
.warn {{ background: var(--warned); border: 1px solid var(--warn); border-radius: 10px; padding: .5rem .9rem }}
.warn ul {{ margin: 0; padding-left: 1.1rem }}
.scroll {{ overflow-x: auto }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; width: 100% }}
th, td {{ padding: .32rem .55rem; text-align: right; border-bottom: 1px solid var(--line) }}
th {{ font-weight: 600; color: var(--soft) }}
th:first-child, td:first-child, .told td, .told th {{ text-align: left }}
td:first-child {{ white-space: nowrap }}
tr:last-child td {{ border-bottom: 0 }}
tr.all td {{ font-weight: 650 }}
.heat td + td, .heat th + th {{ text-align: center; border: 1px solid var(--line) }}
svg {{ width: 100%; height: auto; display: block }}
svg text {{ fill: var(--soft); font: 11px system-ui, sans-serif }}
svg text.name {{ font-size: 12px }}
.grid {{ stroke: var(--line) }}
.line {{ fill: none; stroke-width: 2 }}
polyline.dashed {{ stroke-dasharray: 5 4 }}
rect {{ opacity: .85 }}
.legend {{ display: flex; flex-wrap: wrap; gap: .1rem .9rem; font-size: .85rem; margin: .4rem 0 0; max-width: none }}
.legend i {{ display: inline-block; width: 1rem; border-top: 3px solid; margin-right: .35rem; vertical-align: middle }}
.legend i.dashed {{ border-top-style: dashed }}
{SERIES}
figure {{ margin: 0; overflow: hidden }}
figure.card {{ padding: 0 }}
figure img {{ width: 100%; display: block }}
figcaption {{ padding: .6rem .8rem .75rem; font-size: .92rem; overflow-wrap: anywhere }}
figcaption b, figcaption small {{ display: block }}
.key {{ padding: 0 .25em; border: 2px solid; border-radius: 3px; font-size: .9em }}
details {{ margin: .4rem 0 }}
summary {{ cursor: pointer }}
details li {{ overflow-wrap: anywhere; font-size: .9rem }}
dt {{ font-weight: 600; margin-top: .5rem }}
dd {{ margin: 0; color: var(--soft); max-width: 78ch }}
@media print {{ body {{ max-width: none }} .card, .tile {{ break-inside: avoid }} }}
"""
