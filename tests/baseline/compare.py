"""The flights example beside pandas and scikit-learn: wall time and peak memory of both, measured in one run.

    python compare.py GRISTMILL [ROUNDS]

GRISTMILL is the built program. Runs both in turn, each in an empty folder and uncached, and prints one JSON object
with the best of the rounds and the ratios. Needs pandas, scikit-learn and pyarrow for the Python side.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
EXAMPLE = HERE.parent.parent / "examples" / "flight-delays"


def measured(command, folder):
    """Runs a command; its output, seconds and peak resident memory in MB."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{command[0]} failed with status {status}")
    return json.loads(output), time.perf_counter() - begun, usage.ru_maxrss / 1024


def main(gristmill, rounds):
    ours, theirs = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            script = [sys.executable, str(HERE / "flights_sklearn.py"), str(EXAMPLE / "data"), f"{folder}/scores.parquet"]
            theirs.append(measured(script, folder))
        with tempfile.TemporaryDirectory() as folder:
            run = [str(pathlib.Path(gristmill).resolve()), "run", str(EXAMPLE / "pipeline.yaml"), "--json"]
            ours.append(measured(run, folder))
    our_auc = ours[0][0]["models"][0]["metrics"]["roc_auc"]
    their_auc = theirs[0][0]["roc_auc"]
    seconds = [min(run[1] for run in side) for side in (ours, theirs)]
    memory = [min(run[2] for run in side) for side in (ours, theirs)]
    print(
        json.dumps(
            {
                "gristmill": {"seconds": seconds[0], "peak_mb": memory[0], "roc_auc": our_auc},
                "scikit_learn": {"seconds": seconds[1], "peak_mb": memory[1], "roc_auc": their_auc},
                "time_ratio": seconds[0] / seconds[1],
                "memory_ratio": memory[0] / memory[1],
                "roc_auc_difference": our_auc - their_auc,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3)
