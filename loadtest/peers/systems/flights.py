"""The flights of examples/flight-delays in stages, with scikit-learn; files go from stage to stage, as between machines.

The same columns, rules and models as `flights.yaml`, which Gristmill runs. Each stage uses one core: two workers
with one process each are what every system has. Libraries are imported by the tasks that need them, so that workers start without.
"""

from pathlib import Path
from typing import Any

NUMERIC = ["dep_delay", "distance", "hour"]
CATEGORICAL = ["carrier", "origin", "dest", "month"]


def ingest(data: str, folder: str) -> str:
    """Reads a year of flights; those that arrived, and whether more than a quarter of an hour late."""
    import pandas as pd

    flights = pd.concat([pd.read_csv(path) for path in sorted(Path(data).glob("*.csv.gz"))], ignore_index=True)
    trips = flights.loc[flights["arr_delay"].notna(), [*NUMERIC, *CATEGORICAL]].copy()
    trips["late"] = flights["arr_delay"] > 15
    trips.to_parquet(Path(folder) / "trips.parquet")
    return folder


def split(folder: str) -> str:
    """A fifth is for the test, with the same share of late ones."""
    import pandas as pd
    from sklearn.model_selection import train_test_split

    trips = pd.read_parquet(Path(folder) / "trips.parquet")
    train, test = train_test_split(trips, test_size=0.2, stratify=trips["late"], random_state=7)
    train.to_parquet(Path(folder) / "train.parquet")
    test.to_parquet(Path(folder) / "test.parquet")
    return folder


def logistic() -> Any:
    """Numbers scaled, categories one-hot."""
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    features = ColumnTransformer(
        [("numeric", StandardScaler(), NUMERIC), ("categorical", OneHotEncoder(handle_unknown="ignore"), CATEGORICAL)]
    )
    return Pipeline([("features", features), ("model", LogisticRegression(max_iter=200))])


def forest() -> Any:
    """Categories as codes: for scikit-learn's trees that is several times faster than one-hot, and as good here."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder

    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    features = ColumnTransformer([("numeric", "passthrough", NUMERIC), ("categorical", codes, CATEGORICAL)])
    model = RandomForestClassifier(n_estimators=50, max_depth=12, n_jobs=1, random_state=7)
    return Pipeline([("features", features), ("model", model)])


def train(folder: str, kind: str) -> str:
    """Trains `logistic` or `forest`; returns the file of the model."""
    import joblib
    import pandas as pd

    flights = pd.read_parquet(Path(folder) / "train.parquet")
    model = {"logistic": logistic, "forest": forest}[kind]()
    model.fit(flights[[*NUMERIC, *CATEGORICAL]], flights["late"])
    path = Path(folder) / f"{kind}.joblib"
    joblib.dump(model, path)
    return str(path)


def validate(models: list[str]) -> dict[str, float]:
    """The area under the ROC curve of each model, on the test's flights."""
    import joblib
    import pandas as pd
    from sklearn.metrics import roc_auc_score

    test = pd.read_parquet(Path(models[0]).parent / "test.parquet")
    features = test[[*NUMERIC, *CATEGORICAL]]
    return {
        Path(path).stem: float(roc_auc_score(test["late"], joblib.load(path).predict_proba(features)[:, 1]))
        for path in models
    }


def score(aucs: dict[str, float], folder: str) -> dict[str, float]:
    """Scores all flights with the better model into a file; returns the metrics and how many rows were scored."""
    import joblib
    import pandas as pd

    trips = pd.read_parquet(Path(folder) / "trips.parquet")
    best = max(aucs, key=lambda name: aucs[name])
    model = joblib.load(Path(folder) / f"{best}.joblib")
    trips["probability"] = model.predict_proba(trips[[*NUMERIC, *CATEGORICAL]])[:, 1]
    trips.to_parquet(Path(folder) / "scores.parquet")
    return aucs | {"rows": len(trips)}
