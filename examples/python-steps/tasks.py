"""The Python steps of this pipeline: `gristmill-worker tasks`."""

import pandas as pd

import gristmill


@gristmill.task("features")
def features(flights: pd.DataFrame, busy: int) -> pd.DataFrame:
    """How late the flight before left from the same airport, and whether the hour was a busy one."""
    flown = flights.dropna(subset=["dep_delay", "arr_delay"]).sort_values(["origin", "time_hour", "sched_dep_time"])
    before = flown.groupby("origin")["dep_delay"].shift(1).fillna(0.0)
    at_once = flown.groupby(["origin", "time_hour"])["flight"].transform("size")
    kept = flown[["month", "hour", "carrier", "origin", "dest", "distance", "dep_delay"]]
    return kept.assign(delay_before=before, is_busy=(at_once > busy).astype(int), late=flown["arr_delay"] > 15)


@gristmill.task("airports")
def airports(flights: pd.DataFrame, context: gristmill.Context) -> dict[str, float]:
    """The share of late flights of each airport: numbers become metrics of the step."""
    shares = flights.groupby("origin")["late"].mean()
    context.progress(len(shares), len(shares), "airports")
    return {f"late_{origin.lower()}": float(share) for origin, share in shares.items()}
