"""Searches: wall time on more workers against the ideal, and the strategies compared over seeds.

    python tests/baseline/tuning.py GRISTMILL [SEEDS]

First one search of 60 trials on 1, 2 and 4 slots: wall seconds of the search, the trials' own work as their workers
measured it, the ideal (work divided by slots, of which no more than there are cores can help), and what was lost between
trials. Then random, TPE and ASHA with the same budget (rows learned from, in whole trials) over SEEDS seeds (default 10):
the best score of the cross-validation. Data: two months of the flights, gradient boosting.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
PIPELINE = """name: search
steps:
  flights: {{ ingest: {{ source: data }} }}
  trips:
    transform:
      sql: >
        select month, hour, carrier, origin, dest, distance, dep_delay, arr_delay > 15 as late
        from flights where arr_delay is not null and flight % 4 = 0
  best:
    tune:
      input: trips
      target: late
      features: {{ numeric: [dep_delay, distance, hour], categorical: [carrier, origin, dest, month] }}
      algorithms: [ gradient_boosting: {{ iterations: 60 }} ]
      space:
        gradient_boosting.learning_rate: {{ type: float, low: 0.005, high: 0.8, log: true }}
        gradient_boosting.max_leaves: {{ type: integer, low: 2, high: 128, log: true }}
        gradient_boosting.min_samples_leaf: {{ type: integer, low: 1, high: 500, log: true }}
        gradient_boosting.l2: {{ type: float, low: 0.001, high: 100, log: true }}
        gradient_boosting.subsample: {{ type: float, low: 0.2, high: 1 }}
        gradient_boosting.colsample: {{ type: float, low: 0.2, high: 1 }}
      metric: log_loss
      sampler: {sampler}
      trials: {trials}
      in_flight: 4
      folds: {{ count: 3 }}
      seed: {seed}
      {halving}
"""
STRATEGIES = {
    "random": ("random", 24, ""),
    "TPE": ("tpe", 24, ""),
    # One of three goes on, with three times the rows: a trial takes three tenths of a whole one on average.
    "ASHA, random": ("random", 80, "halving: { min_percent: 10, eta: 3 }"),
    "ASHA, TPE": ("tpe", 80, "halving: { min_percent: 10, eta: 3 }"),
}


def search(program, folder, slots, sampler, trials, seed, halving=""):
    text = PIPELINE.format(sampler=sampler, trials=trials, seed=seed, halving=halving)
    with open(os.path.join(folder, "search.yaml"), "w") as file:
        file.write(text)
    command = [program, "run", "search.yaml", "--slots", str(slots), "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)
    told = subprocess.run([program, "trials", "--json"], cwd=folder, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["steps"]["best"]["seconds"], json.loads(told.stdout)[0]


def main(program, seeds=10):
    program, seeds, cores = os.path.abspath(program), int(seeds), os.cpu_count()
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(os.path.join(folder, "data"))
        for month in (1, 2):
            name = f"flights-2013-{month:02}.csv.gz"
            shutil.copy(os.path.join(ROOT, "examples/flight-delays/data", name), os.path.join(folder, "data"))
        search(program, folder, 1, "random", 1, 99)
        print(f"60 trials, {cores} cores\n  slots   wall s   work s  ideal s   ratio  lost ms a trial")
        for slots in (1, 2, 4):
            wall, told = search(program, folder, slots, "tpe", 60, 1000 + slots)
            ideal = told["seconds"] / min(slots, cores)
            lost = (wall - ideal) / 60 * min(slots, cores) * 1000
            print(f"  {slots:5} {wall:8.2f} {told['seconds']:8.2f} {ideal:8.2f} {wall / ideal:7.2f} {lost:9.1f}", flush=True)
        if seeds == 0:
            return
        print(f"\nbest log loss over {seeds} seeds, and rows learned from in whole trials")
        for name, (sampler, trials, halving) in STRATEGIES.items():
            scores, budgets = [], []
            for seed in range(seeds):
                _, told = search(program, folder, 2, sampler, trials, seed, halving)
                jobs = [(rows, score) for trial in told["trials"] for rows, score in trial["scores"]]
                most = max(rows for rows, _ in jobs)
                budgets.append(sum(rows for rows, _ in jobs) / most)
                scores.append(min(score for rows, score in jobs if rows == most))
            mean, deviation = statistics.mean(scores), statistics.stdev(scores) if seeds > 1 else 0
            print(f"  {name:14} {mean:.5f} ± {deviation:.5f}   {statistics.mean(budgets):.1f} trials", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
