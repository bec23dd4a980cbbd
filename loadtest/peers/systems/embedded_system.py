"""Gristmill with nothing beside it: `gristmill run`, two tasks at a time, in a folder that is empty before.

Durable: each decision is in a file before anything follows from it; that survives a killed process (and a power cut
with `--durable`, which isn't set, as Redis and RabbitMQ of the others don't sync each write either).
"""

import json
import os
from typing import ClassVar

from systems.driver import expect, run
from systems.gristmill_system import GristmillSystem


class EmbeddedSystem(GristmillSystem):
    """There is nothing to start: the times have it in them."""

    leaves_out: ClassVar[dict[str, str]] = {
        "submissions": "a command is a run",
        "crash": "one process: when it dies, `gristmill resume` goes on with the run",
    }

    def start(self) -> None:
        """Nothing."""
        self.program: str = self.options["program"]
        for name in ("GRISTMILL_BROKER", "GRISTMILL_STATE", "GRISTMILL_ARTIFACTS"):
            os.environ.pop(name, None)
            self.processes.env.pop(name, None)

    def to_end(self, pipeline: str, *more: str) -> str:
        """`gristmill run`."""
        path = self.folder / "pipeline.yaml"
        path.write_text(pipeline)
        # In the list of processes, so that its memory is looked at.
        self.processes.start("run", [self.program, "run", str(path), "--slots", "2", "--json", *more], cwd=self.folder)
        status = self.processes.running["run"].wait()
        expect("the exit code", status, 0)
        # Ended by itself: nothing of it is to be stopped.
        del self.processes.running["run"]
        return str(json.loads(self.command("show", "--json"))["run"])


if __name__ == "__main__":
    run(EmbeddedSystem)
