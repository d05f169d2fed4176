"""The style of the HTML page, and of the report in a notebook."""

from __future__ import annotations

PAGE = '''
:root { color-scheme: light dark; }
body { margin: 0 auto; padding: 24px; max-width: 1500px; }
'''.lstrip()

# Every rule is about what lies inside .ese, so that a notebook around it keeps its own looks.
REPORT = '''
.ese { --line: #8884; --soft: #8881; --error: #d32f2f; --warning: #b26a00; --note: #1976d2;
  --here: #f9a82544; font: 15px/1.5 system-ui, sans-serif; text-align: left; }
.ese * { box-sizing: border-box; }
.ese h1 { margin: 0; font-size: 26px; }
.ese h2 { margin: 0 0 12px; font-size: 14px; letter-spacing: .08em; opacity: .7; }
.ese header p { margin: 4px 0 16px; opacity: .7; }
.ese code, .ese pre, .ese svg text { font-family: ui-monospace, "DejaVu Sans Mono", monospace;
  font-size: 13px; }
.ese table.overview { border-collapse: collapse; margin-bottom: 24px; }
.ese .overview td, .ese .overview th { border: 1px solid var(--line); padding: 5px 14px;
  text-align: left; font-weight: normal; }
.ese .overview thead th, .ese .overview th[scope=row] { font-weight: 600; }
.ese .modes { display: grid; grid-template-columns: repeat(auto-fit, minmax(330px, 1fr));
  gap: 20px; align-items: start; }
.ese section { margin-bottom: 24px; min-width: 0; }
.ese .none { opacity: .6; margin: 0; }
.ese article { border: 1px solid var(--line); border-left-width: 5px; border-radius: 6px;
  padding: 12px 16px; margin-bottom: 14px; overflow-wrap: anywhere; }
.ese article.error { border-left-color: var(--error); }
.ese article.warning { border-left-color: var(--warning); }
.ese article.note { border-left-color: var(--note); }
.ese article p { margin: 0 0 8px; }
.ese .level { text-transform: uppercase; font-size: 12px; font-weight: 700; }
.ese .error .level { color: var(--error); }
.ese .warning .level { color: var(--warning); }
.ese .note .level { color: var(--note); }
.ese .message { font-size: 16px; }
.ese .fix b { font-weight: 600; margin-right: 4px; opacity: .7; }
.ese figure { margin: 0 0 8px; }
.ese figcaption { font-size: 13px; opacity: .7; }
.ese pre { margin: 4px 0 0; padding: 8px; background: var(--soft); border-radius: 4px;
  overflow-x: auto; }
.ese figure pre b { display: inline-block; min-width: 100%; font-weight: normal;
  background: var(--here); }
.ese pre.prose { white-space: pre-wrap; }
.ese dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 2px 12px;
  margin: 0 0 8px; }
.ese dt { opacity: .7; }
.ese dd { margin: 0; }
.ese summary { cursor: pointer; color: var(--note); }
.ese .path svg { max-width: 100%; margin-top: 4px; }
.ese .path rect { fill: var(--soft); stroke: var(--line); }
.ese .path rect.end { stroke: var(--error); stroke-width: 1.5; }
.ese .path text { text-anchor: middle; fill: currentColor; font-size: 12px; }
.ese .path text.gap { opacity: .6; }
.ese .path .arrow { stroke: currentColor; opacity: .6; fill: none; }
.ese .path .tip { fill: currentColor; opacity: .6; }
'''.lstrip()
