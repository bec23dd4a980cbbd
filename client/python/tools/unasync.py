"""Makes the synchronous client of the asynchronous one: `python tools/unasync.py`, with `--check` says whether it is made.

What differs between the two is words only; what is for the synchronous one alone stands in comments, `# sync: …`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "src" / "gristmill"
HEAD = "# Made from `_async/{name}` by `tools/unasync.py`; change that file.\n"

WORDS = [
    (r"# sync: ?", ""),
    (r"_async\b", "_sync"),
    (r"httpx\.AsyncClient", "httpx.Client"),
    (r"\bAsyncIterator\b", "Iterator"),
    (r"\b(_?)Async([A-Z])", r"\1\2"),
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\b__aenter__\b", "__enter__"),
    (r"\b__aexit__\b", "__exit__"),
    (r"\b__aiter__\b", "__iter__"),
    (r"\baclose\b", "close"),
    (r"\baread\b", "read"),
    (r"\baiter_lines\b", "iter_lines"),
    (r"\basyncio\.sleep\b", "time.sleep"),
    (r"^import asyncio$", "import time"),
]


def made(source: Path) -> str:
    """The synchronous text of a file."""
    text = source.read_text(encoding="utf-8")
    for pattern, word in WORDS:
        text = re.sub(pattern, word, text, flags=re.MULTILINE)
    # Two imports of the same module may have come of two modules.
    text = re.sub(r"^(import time\n)(?=(?:.*\n)*?import time\n)", "", text, count=1, flags=re.MULTILINE)
    ruff = [sys.executable, "-m", "ruff", "--quiet"]
    fixed = _piped([*ruff, "check", "--select", "I", "--fix-only", "--stdin-filename", str(source), "-"], text)
    formatted = _piped([*ruff[:-1], "format", "--quiet", "--stdin-filename", str(source), "-"], fixed)
    return HEAD.format(name=source.name) + formatted


def _piped(command: list[str], text: str) -> str:
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def main() -> None:
    """Writes the files, or compares them."""
    check = "--check" in sys.argv
    stale = []
    for source in sorted((PACKAGE / "_async").glob("*.py")):
        if source.name == "__init__.py":
            continue
        target = PACKAGE / "_sync" / source.name
        text = made(source)
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            stale.append(source.name)
            if not check:
                target.write_text(text, encoding="utf-8")
    if check and stale:
        sys.exit(f"not made from what `_async` has: {', '.join(stale)}; run tools/unasync.py")


if __name__ == "__main__":
    main()
