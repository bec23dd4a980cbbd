"""Collects what is wrong and says all of it at once."""

import sys


class Problems:
    def __init__(self):
        self.found = []

    def want(self, holds, text):
        """Notes `text` unless `holds` is true."""
        if not holds:
            self.found.append(text)

    def end(self):
        """Ends the process: 1 with everything that is wrong, or 0."""
        for text in self.found:
            print(f"  {text}", file=sys.stderr)
        sys.exit(1 if self.found else 0)
