"""A picture of the way through the graph that a finding speaks of, as inline SVG."""

from __future__ import annotations

import html
from typing import Sequence

_ROW, _HEIGHT, _LEFT, _CHARACTER = 44, 26, 8, 7.3
_LONGEST, _MOST = 46, 9


def picture(path: Sequence[str]) -> str:
    """Boxes from the first op to the last, joined by arrows.

    Args:
      path: names of ops; a long way is shortened in its middle.

    Returns:
      An HTML figure, or '' for an empty path.
    """
    if not path:
        return ''
    names = _shortened(path)
    width = int(max(len(_label(name)) for name in names) * _CHARACTER) + 24
    height = len(names) * _ROW - (_ROW - _HEIGHT) + 4
    parts = []
    for row, name in enumerate(names):
        top = 2 + row * _ROW
        middle = _LEFT + width / 2
        if row:
            start = top - _ROW + _HEIGHT
            parts.append(f'<path class="arrow" d="M{middle:.0f} {start} V{top - 5}"/>'
                         f'<path class="tip" d="M{middle - 4:.0f} {top - 6} h8 l-4 6 z"/>')
        if name == '':
            parts.append(f'<text class="gap" x="{middle:.0f}" y="{top + 17}">'
                         f'… {len(path) - len(names) + 1} more …</text>')
            continue
        kind = 'end' if row in (0, len(names) - 1) else 'step'
        parts.append(f'<rect class="{kind}" x="{_LEFT}" y="{top}" width="{width}" '
                     f'height="{_HEIGHT}" rx="5"/>'
                     f'<text x="{middle:.0f}" y="{top + 17}">{html.escape(_label(name))}'
                     f'<title>{html.escape(name)}</title></text>')
    return ('<figure class="path"><figcaption>the way in the graph</figcaption>'
            f'<svg role="img" aria-label="from {html.escape(path[0], quote=True)} to '
            f'{html.escape(path[-1], quote=True)}" width="{width + 2 * _LEFT}" height="{height}">'
            + ''.join(parts) + '</svg></figure>')


def _shortened(path: Sequence[str]) -> list[str]:
    if len(path) <= _MOST:
        return list(path)
    half = _MOST // 2
    return [*path[:half], '', *path[-half:]]


def _label(name: str) -> str:
    """The end of a long name says most."""
    return name if len(name) <= _LONGEST else '…' + name[1 - _LONGEST:]
