"""Ingest and batch scoring of millions of rows beside Polars, scikit-learn and ONNX Runtime.

    python tests/baseline/batch.py GRISTMILL [ROWS]

Needs numpy, pandas, polars, pyarrow, scikit-learn, skl2onnx, onnxruntime and GNU time. Data: the flights of
examples/flight-delays, repeated to ROWS (default 5,000,000). Each measurement is a process of its own, so that the peak of its
memory is its own. Everybody scores with a forest of 100 trees of depth 12 that was trained on the year's flights, from
Parquet to Parquet, the row's number of the flight beside the probability.
"""

import glob
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
NUMERIC = ["dep_delay", "distance", "hour"]
CATEGORICAL = ["carrier", "origin", "dest", "month"]
PIPELINE = """name: batch
steps:
  year: { ingest: { source: YEAR } }
  known: { transform: { sql: "select *, arr_delay > 15 as late from year where arr_delay is not null" } }
  model:
    train:
      input: known
      target: late
      features: { numeric: [dep_delay, distance, hour], categorical: [carrier, origin, dest, month] }
      algorithm: { random_forest: { trees: 100, max_depth: 12 } }
  many: { ingest: { source: MANY } }
  scores: { score: { model: model, input: many, output: OUTPUT, keep: [flight] } }
"""


def measured(command, **options):
    """Wall seconds and peak MB of a process; fails with what it said."""
    began = time.monotonic()
    done = subprocess.run(["/usr/bin/time", "-v", *command], capture_output=True, text=True, **options)
    seconds = time.monotonic() - began
    if done.returncode != 0:
        sys.exit(f"{command}: {done.stdout}{done.stderr}")
    peak = int(re.search(r"Maximum resident set size \(kbytes\): (\d+)", done.stderr).group(1)) / 1024
    return seconds, peak, done.stdout


def repeat(path, rows):
    """The year's flights, over and over, as one CSV file."""
    bodies = []
    for name in sorted(glob.glob(os.path.join(ROOT, "examples/flight-delays/data/*.csv.gz"))):
        with gzip.open(name, "rb") as file:
            header, body = file.read().split(b"\n", 1)
        bodies.append(body)
    lines = b"".join(bodies).splitlines(keepends=True)
    with open(path, "wb") as file:
        file.write(header + b"\n")
        for _ in range(rows // len(lines)):
            file.writelines(lines)
        file.writelines(lines[: rows % len(lines)])


def by_polars(csv, parquet):
    import polars

    polars.scan_csv(csv, null_values="NA", try_parse_dates=True).sink_parquet(parquet)


def by_sklearn(parquet, scores, engine):
    """Trains on the year (not timed), then scores row group by row group; prints the seconds of scoring."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq
    from sklearn.ensemble import RandomForestClassifier

    year = pd.concat([pd.read_csv(path) for path in sorted(glob.glob(os.path.join(ROOT, "examples/flight-delays/data/*")))])
    year = year[year.arr_delay.notna()]
    levels = {column: sorted(year[column].unique()) for column in CATEGORICAL}
    means = year[NUMERIC].mean()

    def matrix(table):
        columns = [table[column].fillna(means[column]) for column in NUMERIC]
        columns += [pd.Categorical(table[column], categories=levels[column]).codes for column in CATEGORICAL]
        return np.column_stack(columns).astype(np.float32)

    forest = RandomForestClassifier(100, max_depth=12, max_features=2, n_jobs=-1, random_state=1)
    forest.fit(matrix(year), year.arr_delay > 15).set_params(n_jobs=1)
    if engine == "onnx":
        import onnxruntime
        from skl2onnx import to_onnx

        model = to_onnx(forest, np.zeros((1, 7), np.float32), options={"zipmap": False})
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        name = session.get_inputs()[0].name
        predict = lambda x: session.run(["probabilities"], {name: x})[0][:, 1]
    else:
        predict = lambda x: forest.predict_proba(x)[:, 1]
    source = pq.ParquetFile(parquet)
    began, writer = time.monotonic(), None
    for batch in source.iter_batches(65_536, columns=["flight", *NUMERIC, *CATEGORICAL]):
        table = batch.to_pandas()
        scored = pa.table({"flight": table["flight"], "probability": predict(matrix(table))})
        writer = writer or pq.ParquetWriter(scores, scored.schema, compression="zstd")
        writer.write_table(scored)
    writer.close()
    print(time.monotonic() - began)


def by_gristmill(program, folder, source, output, slots):
    """Runs the pipeline; everything but the scores is there already. Returns the seconds of the scores' step."""
    text = PIPELINE.replace("YEAR", os.path.join(ROOT, "examples/flight-delays/data"))
    with open(os.path.join(folder, "batch.yaml"), "w") as file:
        file.write(text.replace("MANY", source).replace("OUTPUT", output))
    command = [program, "run", "batch.yaml", "--slots", str(slots), "--json"]
    _, peak, said = measured(command, cwd=folder)
    return json.loads(said)["steps"]["scores"]["seconds"], peak


def main(program, rows=5_000_000):
    program, rows = os.path.abspath(program), int(rows)
    with tempfile.TemporaryDirectory() as folder:
        csv, parquet = os.path.join(folder, "flights.csv"), os.path.join(folder, "flights.parquet")
        repeat(csv, rows)
        print(f"{rows:,} rows, {os.path.getsize(csv) / 1e6:.0f} MB of CSV; seconds, rows a second, peak MB\n\nCSV to Parquet")

        def line(name, seconds, peak, of=rows):
            print(f"  {name:34} {seconds:7.2f} {of / seconds:12,.0f} {peak:8.0f}", flush=True)

        for turn in range(2):
            seconds, peak, _ = measured([sys.executable, __file__, "--polars", csv, parquet])
            line("Polars, streaming", seconds, peak)
            with open(os.path.join(folder, "ingest.yaml"), "w") as file:
                file.write(f"name: ingest{turn}\nsteps: {{ flights: {{ ingest: {{ source: {csv} }} }} }}\n")
            seconds, peak, _ = measured([program, "run", "ingest.yaml", "--no-cache"], cwd=folder)
            line("Gristmill, with a profile", seconds, peak)
        print("\nParquet to Parquet, a forest of 100 trees of depth 12")
        for engine in ("sklearn", "onnx"):
            command = [sys.executable, __file__, "--score", parquet, os.path.join(folder, "peer.parquet"), engine]
            _, peak, said = measured(command)
            line({"sklearn": "scikit-learn", "onnx": "ONNX Runtime"}[engine] + ", one thread", float(said), peak)
        by_gristmill(program, folder, parquet, "warm.parquet", 2)
        for slots in (1, 2):
            seconds, peak = by_gristmill(program, folder, parquet, f"scores-{slots}.parquet", slots)
            line(f"Gristmill, {slots} slot{'s' * (slots > 1)}", seconds, peak)
        # A fifth of the rows: memory is flat when it takes as much.
        part = os.path.join(folder, "part.parquet")
        import polars

        polars.scan_parquet(parquet).head(rows // 5).sink_parquet(part)
        by_gristmill(program, folder, part, "warm-part.parquet", 2)
        seconds, peak = by_gristmill(program, folder, part, "scores-part.parquet", 2)
        line(f"Gristmill, 2 slots, {rows // 5:,} rows", seconds, peak, rows // 5)


if __name__ == "__main__":
    if sys.argv[1] == "--polars":
        by_polars(*sys.argv[2:])
    elif sys.argv[1] == "--score":
        by_sklearn(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
