"""What the given program takes: its own parser is asked, so that no manifest names an option that isn't there."""

import re
import subprocess

# Options and commands that a program may be too old for. What it doesn't know of these isn't asked of it.
NEWER_OPTIONS = {"--label": 1, "--spot": 0, "--spot-notice": 1}


# Help is printed in milliseconds; a machine that compiles beside it is slower.
HELP_SECONDS_MAX = 60


class Program:
    def __init__(self, path):
        self.path = path
        self.helps = {}

    def help(self, command):
        """The help of a command; empty when there is no such command."""
        if command not in self.helps:
            done = subprocess.run([self.path, command, "--help"], capture_output=True, text=True, timeout=HELP_SECONDS_MAX)
            self.helps[command] = done.stdout if done.returncode == 0 else ""
        return self.helps[command]

    def has_pools(self):
        return bool(self.help("pool"))

    def complaint(self, arguments):
        """What the program says against a command line, or None. `--help` at its end is reached only when all is well."""
        if not arguments:
            return "no command"
        if arguments[0] == "pool" and not self.has_pools():
            return None
        known, given, index = self.help(arguments[0]), [], 0
        while index < len(arguments):
            word = arguments[index]
            if word in NEWER_OPTIONS and word not in known:
                index += 1 + NEWER_OPTIONS[word]
                continue
            given.append(word)
            index += 1
        done = subprocess.run([self.path, *given, "--help"], capture_output=True, text=True, timeout=HELP_SECONDS_MAX)
        return None if done.returncode == 0 else f"`gristmill {' '.join(given)}`: {done.stderr.strip().splitlines()[0]}"

    def variables(self):
        """The GRISTMILL_ variables that any command reads."""
        text = "".join(self.help(command) for command in ("scheduler", "worker", "api", "serve", "up", "pool"))
        return set(re.findall(r"GRISTMILL_[A-Z_]+", text)) | {"GRISTMILL_LOG", "GRISTMILL_LOG_FORMAT"}
