"""Checks the Containerfile beyond its lint: image.py GRISTMILL ROOT

That it ends as a plain user, hears signals, is started by SageMaker as `IMAGE serve`, names variables that the program reads, and
that what .containerignore lets in is enough to build from.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

from problems import Problems
from program import Program


def included(root):
    with open(f"{root}/.containerignore") as file:
        return [line[1:].strip() for line in file if line.startswith("!")]


def check_context(root, problems):
    """Copies what a build would get, as far as git keeps it, and asks cargo for the whole of it."""
    names = included(root)
    listed = subprocess.run(["git", "-C", root, "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *names],
                            capture_output=True, check=True)
    files = [name for name in listed.stdout.decode().split("\0") if name]
    with tempfile.TemporaryDirectory() as folder:
        for name in files:
            os.makedirs(os.path.dirname(f"{folder}/{name}"), exist_ok=True)
            if os.path.exists(f"{root}/{name}"):
                shutil.copyfile(f"{root}/{name}", f"{folder}/{name}")
        command = ["cargo", "metadata", "--no-deps", "--offline", "--format-version", "1"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        problems.want(done.returncode == 0, f".containerignore leaves out what cargo needs: {done.stderr.strip()[:300]}")
    for name in files:
        if name.endswith(".rs") and "/tests/" not in name:
            with open(f"{root}/{name}") as file:
                for path in re.findall(r'include_(?:str|bytes)!\(\s*(?:concat!\()?"([^"]+)"', file.read()):
                    full = os.path.relpath(os.path.join(root, os.path.dirname(name), path), root)
                    there = any(full == one or full.startswith(f"{one}/") for one in names)
                    problems.want(there, f".containerignore leaves out {full}, which {name} includes")


def main():
    program, root, problems = Program(sys.argv[1]), sys.argv[2], Problems()
    with open(f"{root}/deploy/Containerfile") as file:
        text = file.read()
    final = re.sub(r"\\\n\s*", " ", text[text.rindex("\nFROM ") :])
    lines = [line.split(None, 1) for line in final.splitlines() if line and not line.startswith("#")]
    last = {word: rest for word, rest in lines}
    user = last.get("USER", "0")
    problems.want(user.split(":")[0].isdigit() and int(user.split(":")[0]) > 0, "Containerfile: ends as root, or as a name that Kubernetes can't judge")
    problems.want(last.get("ENTRYPOINT") == '["/usr/bin/gristmill"]', "Containerfile: its entry point isn't the program itself")
    problems.want(json.loads(last.get("CMD", "[]")) == ["--help"], "Containerfile: its command isn't --help")
    problems.want("HEALTHCHECK" in last, "Containerfile: has no HEALTHCHECK")
    settings = dict(word.split("=", 1) for word in last["ENV"].split())
    problems.want(settings.get("GRISTMILL_LISTEN") == "0.0.0.0:8080", "Containerfile: SageMaker asks port 8080")
    for name in settings:
        problems.want(name in program.variables(), f"Containerfile: the program reads no {name}")
    for line in re.findall(r"^COPY (?!--from)(?:--\S+ )*(\S+) ", final, re.MULTILINE):
        problems.want(os.path.exists(f"{root}/{line}"), f"Containerfile: there is no {line}")
        problems.want(any(line.startswith(name) for name in included(root)), f".containerignore leaves out {line}")
    link = os.path.realpath(f"{root}/.dockerignore") == os.path.realpath(f"{root}/.containerignore")
    problems.want(link, ".dockerignore isn't .containerignore")
    check_context(root, problems)
    problems.end()


main()
