"""How the page looks: no script, no font or picture from elsewhere, light and dark."""

STYLE = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1c2128;--soft:#59636e;--line:#d5dae0;--card:#f6f8fa;
--added:#116329;--removed:#a40e26;--changed:#7d4e00;--renamed:#0a53a8;--old:#e07b39;--new:#2f6fd0;
--addbg:#dcf5e2;--delbg:#fde4e4}
@media (prefers-color-scheme:dark){:root{--bg:#0f1318;--fg:#e3e8ee;--soft:#98a3af;--line:#30373f;
--card:#171c22;--added:#56d364;--removed:#ff8a80;--changed:#e3b341;--renamed:#79b8ff;--old:#f0955a;
--new:#6ea8ff;--addbg:#12331d;--delbg:#40191c}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1160px;padding:1.5rem 1rem 4rem;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:1.5rem;line-height:1.25;margin:0 0 .25rem}
h2{font-size:1.2rem;margin:2.25rem 0 .5rem;padding-bottom:.25rem;
border-bottom:1px solid var(--line)}
h3{font-size:.95rem;margin:0;overflow-wrap:anywhere;font-family:ui-monospace,monospace}
a{color:var(--renamed)}
p{margin:.35rem 0}
:focus-visible{outline:3px solid var(--new);outline-offset:2px}
.skip{position:absolute;left:-99rem}.skip:focus{position:static}
nav ul{list-style:none;display:flex;flex-wrap:wrap;gap:.25rem 1rem;padding:0;margin:.75rem 0 0}
.soft,figcaption,.note{color:var(--soft);font-size:.86rem}
.chips{display:flex;flex-wrap:wrap;gap:.5rem;margin:1rem 0 0;padding:0;list-style:none}
.chips li{border:1px solid var(--line);background:var(--card);border-radius:8px;
padding:.35rem .75rem}
.chips b{font-size:1.15rem}
.added{color:var(--added)}.removed{color:var(--removed)}
.changed,.modified{color:var(--changed)}.renamed{color:var(--renamed)}
.scroll{overflow-x:auto;max-width:100%;margin:.5rem 0}
table{border-collapse:collapse;font-size:.86rem}
th,td{border-bottom:1px solid var(--line);padding:.25rem .6rem;text-align:left;vertical-align:top}
th{font-weight:600;color:var(--soft);white-space:nowrap}
td.path,td.value{overflow-wrap:anywhere;min-width:5rem;max-width:46rem}
td.path{min-width:8.5rem}
td.word{white-space:nowrap}
p.table{margin-top:.9rem}
code{white-space:nowrap}
td.number,th.number{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.cards{display:grid;gap:.75rem}
.card{border:1px solid var(--line);background:var(--card);border-radius:8px;
padding:.75rem;min-width:0}
.card>header{display:flex;flex-wrap:wrap;gap:.1rem .75rem;align-items:baseline}
.tag{font-size:.8rem;font-weight:600}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,16rem),1fr));gap:.75rem;
margin-top:.5rem}
.pair.three{grid-template-columns:repeat(3,minmax(0,1fr))}
@media (max-width:640px){.pair.three{grid-template-columns:1fr}th,td{padding:.25rem .4rem}
.stacks thead{position:absolute;left:-99rem}.stacks tr{display:block;padding:.25rem 0;
border-bottom:1px solid var(--line)}.stacks td{display:inline-block;border:0;padding:0 .5rem 0 0;
min-width:0}.stacks td:last-child{display:block}}
figure{margin:0;min-width:0}
figure img{display:block;max-width:100%;height:auto;max-height:20rem;border-radius:4px;
background:#fff;border:1px solid var(--line)}
figure img.difference{background:#000}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,15rem),1fr));gap:.75rem;
margin-top:.5rem}
svg{display:block;width:100%;height:auto}
svg .old{fill:var(--old)}svg .new{fill:var(--new)}svg .axis{stroke:var(--line)}
svg text{fill:var(--fg);font:11px system-ui,sans-serif}
.key-old::before,.key-new::before{content:"";display:inline-block;width:.7em;height:.7em;
margin-right:.3em;border-radius:2px;background:var(--old)}
.key-new::before{background:var(--new)}
pre{margin:.5rem 0 0;padding:.5rem;overflow-x:auto;border:1px solid var(--line);border-radius:6px;
background:var(--bg);font:12.5px/1.45 ui-monospace,monospace}
pre span{display:block;white-space:pre}
pre .plus{background:var(--addbg)}pre .minus{background:var(--delbg)}pre .at{color:var(--soft)}
del,ins{text-decoration:none;padding:0 .2em;border-radius:3px}
del{background:var(--delbg)}ins{background:var(--addbg)}
summary{cursor:pointer;padding:.25rem 0}
"""
