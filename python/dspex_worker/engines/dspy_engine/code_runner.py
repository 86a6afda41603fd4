"""Writes the script that Deno runs for dspy.PythonInterpreter, with nothing in it that comes from elsewhere than the npm registry.

DSPy's own imports one function, which reads lines, from a site of its own: it would be fetched without a check by each new cache.
The host runs this file as a program when it makes an environment that has Deno: FROM TO.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

__all__ = ["rewritten"]

_IMPORT = re.compile(r'^import \{ readLines \} from "https://[^"]*";\n', re.MULTILINE)

_READ_LINES = """\
async function* readLines(source) {
  const decoder = new TextDecoder();
  const chunk = new Uint8Array(65536);
  let rest = "";
  for (let n = await source.read(chunk); n !== null; n = await source.read(chunk)) {
    const lines = (rest + decoder.decode(chunk.subarray(0, n), { stream: true })).split("\\n");
    rest = lines.pop();
    for (const line of lines) yield line.endsWith("\\r") ? line.slice(0, -1) : line;
  }
  if (rest) yield rest;
}
"""


def rewritten(script: str) -> str:
    """The script with the function in the place of its import."""
    found, count = _IMPORT.subn(lambda _: _READ_LINES, script)
    if count != 1 or "https://" in re.sub(r"^\s*//.*$", "", found, flags=re.MULTILINE):
        raise ValueError("DSPy's runner.js is not the version of this release")
    return found


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(rewritten(Path(sys.argv[1]).read_text("utf-8")), "utf-8")
