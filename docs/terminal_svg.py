"""Runs a program on a terminal and draws what it showed as SVG. The pictures of the README are made with it:

go build -o bin/ ./cmd/...
python3 docs/terminal_svg.py --title "make demo" --start "2  A session" docs/demo.svg bin/dspex demo
"""

from __future__ import annotations

import argparse
import html
import os
import pty
import re
import sys
from dataclasses import dataclass
from pathlib import Path

COLUMNS = 110
LINE, CHAR, SIZE, MARGIN, BAR = 18, 7.83, 13, 16, 30
COLORS = {"30": "#1f2328", "31": "#ff7b72", "32": "#7ee787", "33": "#e3b341", "34": "#79c0ff", "35": "#d2a8ff", "36": "#56d4dd"}
_PART = re.compile(r"\x1b\[([0-9;]*)([A-Za-z])|\r|[^\x1b\r]+")


@dataclass(frozen=True)
class Look:
    """How text looks."""

    color: str = ""
    bold: bool = False
    dim: bool = False

    def after(self, codes: str) -> Look:
        """The look after an SGR sequence."""
        look = self
        for code in (codes or "0").split(";"):
            if code in ("0", ""):
                look = Look()
            elif code == "1":
                look = Look(look.color, True, look.dim)
            elif code == "2":
                look = Look(look.color, look.bold, True)
            elif code in COLORS:
                look = Look(COLORS[code], look.bold, look.dim)
        return look

    def attributes(self) -> str:
        """The look in SVG."""
        found = f' fill="{self.color}"' if self.color else ' fill="#8b949e"' if self.dim else ""
        return found + (' font-weight="bold"' if self.bold else "")


def record(argv: list[str]) -> str:
    """What the program writes to its terminal."""
    os.environ.update(TERM="xterm-256color", COLUMNS=str(COLUMNS), LINES="50")
    os.environ.pop("NO_COLOR", None)
    seen = bytearray()

    def read(descriptor: int) -> bytes:
        data = os.read(descriptor, 65536)
        seen.extend(data)
        return data

    status = os.waitstatus_to_exitcode(pty.spawn(argv, read))
    if status != 0:
        sys.exit(f"{argv[0]} ended with status {status}")
    return seen.decode("utf-8", "replace")


def rows(text: str) -> list[list[tuple[str, Look]]]:
    """The lines as pieces of one look each. A line that was redrawn is what it was in the end."""
    found: list[list[tuple[str, Look]]] = []
    look = Look()
    for line in text.split("\n"):
        pieces: list[tuple[str, Look]] = []
        for part in _PART.finditer(line):
            if part.group(2) == "m":
                look = look.after(part.group(1))
            elif part.group(2) == "K" and part.group(1) == "2":
                pieces = []
            elif part.group(0) not in ("\r",) and part.group(2) is None:
                pieces.append((part.group(0), look))
        found.append(pieces)
    return found


def plain(row: list[tuple[str, Look]]) -> str:
    """The line without looks."""
    return "".join(text for text, _ in row)


def draw(lines: list[list[tuple[str, Look]]], title: str) -> str:
    """The picture."""
    width = int(2 * MARGIN + CHAR * max(min(max(map(len, map(plain, lines))), COLUMNS), len(title) + 12))
    height = BAR + MARGIN + LINE * len(lines) + MARGIN // 2
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(title)}"',
        f' font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="{SIZE}" fill="#e6edf3" xml:space="preserve">',
        f'<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>',
        *(f'<circle cx="{MARGIN + 16 * i}" cy="15" r="5" fill="{color}"/>' for i, color in enumerate(("#ff5f56", "#ffbd2e", "#27c93f"))),
        f'<text x="{width / 2}" y="20" text-anchor="middle" fill="#8b949e">{html.escape(title)}</text>',
    ]
    for number, row in enumerate(lines):
        at, y = 0, BAR + MARGIN + LINE * number
        for text, look in row:
            shown = text[: max(0, COLUMNS - at)]
            if shown.strip():
                out.append(f'<text x="{MARGIN + CHAR * at:.1f}" y="{y}"{look.attributes()}>{html.escape(shown)}</text>')
            at += len(text)
    return "\n".join([*out, "</svg>", ""])


def main() -> None:
    """Reads the arguments, runs the program, writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--title", required=True)
    parser.add_argument("--start", default="", help="leave out the lines before the one that starts so")
    parser.add_argument("out", type=Path)
    parser.add_argument("argv", nargs=argparse.REMAINDER)
    asked = parser.parse_args()
    lines = rows(record(asked.argv))
    first = next((i for i, row in enumerate(lines) if plain(row).startswith(asked.start)), 0)
    lines = lines[first:]
    while lines and not plain(lines[-1]).strip():
        lines.pop()
    asked.out.write_text(draw(lines, asked.title), "utf-8")


if __name__ == "__main__":
    main()
