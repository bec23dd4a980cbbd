"""Compares fitted features and metrics with scikit-learn's own on the same rows.

    python compare.py FOLDER WEATHER.csv.gz

FOLDER has `cases.json` and for each case its numbers, little-endian, eight bytes each. Features have to agree to 1e-9 of
the column's largest value, metrics to 1e-9. Prints a line for each case that agrees; fails at the first that doesn't.
"""

import json
import os
import sys

import numpy as np
import pandas as pd
from sklearn import metrics, preprocessing
from sklearn.decomposition import PCA
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import make_pipeline

TOLERANCE = 1e-9


def gust(weather):
    return weather[["wind_gust"]]


def signed_log(x):
    return np.sign(x) * np.log1p(np.abs(x))


def fit(*steps):
    """A pipeline of transformers, fitted on the same rows that it transforms."""
    return lambda x: make_pipeline(*steps).fit_transform(x)


def clip(x):
    low, high = np.nanquantile(x.to_numpy(), [0.05, 0.9])
    return x.clip(low, high)


def levels(weather):
    """The wind's directions as text, missing ones as a level of their own: ours counts them as unknown."""
    return weather[["wind_dir"]].map(lambda value: "missing" if np.isnan(value) else str(int(value)))


def rare(weather, least):
    """Directions with enough rows in the order of their numbers, then all others and the missing ones."""
    direction = weather["wind_dir"]
    counts = direction.value_counts()
    kept = sorted(counts[counts >= least].index)
    encoder = preprocessing.OneHotEncoder(categories=[kept], handle_unknown="ignore", sparse_output=False)
    known = encoder.fit_transform(direction.to_frame().fillna(-1).to_numpy())
    return np.column_stack([known, ~direction.isin(kept)])


def target(weather):
    encoder = preprocessing.TargetEncoder(smooth=25, target_type="binary")
    encoder.fit(levels(weather), weather["visib"] >= 10)
    return encoder.transform(levels(weather))


def cyclical(weather):
    at = weather["time_hour"].dt
    turns = [(at.month - 1) / 12, at.day_of_week / 7, at.hour / 24]
    return np.column_stack([part(2 * np.pi * turn) for turn in turns for part in (np.sin, np.cos)])


def dates(weather):
    at = weather["time_hour"].dt
    return np.column_stack([at.year, at.month, at.day, at.day_of_year, at.day_of_week, at.hour, at.minute])


FEATURES = {
    "standard": lambda w: fit(SimpleImputer(), preprocessing.StandardScaler())(gust(w)),
    "min_max": lambda w: fit(SimpleImputer(strategy="median"), preprocessing.MinMaxScaler())(gust(w)),
    "robust": lambda w: fit(SimpleImputer(strategy="constant", fill_value=3.5), preprocessing.RobustScaler())(gust(w)),
    "indicator": lambda w: np.column_stack(
        [fit(SimpleImputer(strategy="median"))(gust(w)), MissingIndicator().fit_transform(gust(w))]
    ),
    "log": lambda w: fit(
        SimpleImputer(strategy="median"),
        preprocessing.FunctionTransformer(signed_log),
        preprocessing.StandardScaler(),
    )(gust(w)),
    "clip": lambda w: fit(SimpleImputer(), preprocessing.StandardScaler())(clip(gust(w))),
    "bins": lambda w: fit(SimpleImputer(strategy="median"), bins(7, "ordinal"))(gust(w)),
    "bins_one_hot": lambda w: fit(SimpleImputer(strategy="median"), bins(5, "onehot-dense"))(gust(w)),
    "one_hot": lambda w: fit(preprocessing.OneHotEncoder(sparse_output=False))(w[["origin"]]),
    "one_hot_rare": lambda w: rare(w, 600),
    "ordinal": lambda w: fit(preprocessing.OrdinalEncoder())(w[["origin"]]),
    "target": target,
    "cyclical": cyclical,
    "dates": dates,
    "pca": lambda w: np.column_stack(
        [
            fit(preprocessing.OneHotEncoder(sparse_output=False))(w[["origin"]]),
            fit(SimpleImputer(), preprocessing.StandardScaler(), PCA(3, svd_solver="covariance_eigh"))(
                w[["temp", "dewp", "wind_speed", "pressure"]]
            ),
        ]
    ),
    "expression": lambda w: ((w["temp"] - w["dewp"]) / w["humid"].replace(0, np.nan)).to_frame(),
}


def bins(count, encode):
    return preprocessing.KBinsDiscretizer(count, encode=encode, strategy="quantile", quantile_method="linear")


def words(found, weather):
    """Which column a word goes into is a matter of the hash; how often each word comes is not."""
    texts = weather["origin"] + " " + weather["origin"] + " " + weather["month"].astype(str)
    assert (found.sum(axis=1) == 3).all(), "three words a row"
    by_text = pd.DataFrame(found).groupby(texts.to_numpy())
    assert (by_text.nunique() == 1).all(axis=None), "equal texts have equal rows"
    assert ((found == 2).sum(axis=1) == 1).all(), "the word that comes twice"


def features(case, folder, weather):
    found = np.fromfile(os.path.join(folder, case["name"])).reshape(len(weather), case["columns"])
    if case["name"] == "words":
        return words(found, weather)
    expected = FEATURES[case["name"]](weather)
    expected = np.asarray(getattr(expected, "to_numpy", lambda: expected)(), dtype=float)
    if case["name"] == "expression":
        # What can't be computed is missing, and has the mean of the others.
        expected = np.where(np.isnan(expected), np.nanmean(expected), expected)
    assert found.shape == expected.shape, f"{found.shape} columns {case['names']} where {expected.shape} are expected"
    scale = np.maximum(np.abs(expected).max(axis=0), 1)
    worst = (np.abs(found - expected) / scale).max()
    assert worst <= TOLERANCE, f"differs by {worst} in {np.abs(found - expected).max(axis=0)} of {case['names']}"


def expected_metrics(scores, truth):
    """All metrics of a case; of three and more classes the mean over the classes."""
    if scores.shape[1] == 1:
        p, y = scores[:, 0], truth
        return {
            "bias": (p - y).mean(),
            "mae": metrics.mean_absolute_error(y, p),
            "mape": metrics.mean_absolute_percentage_error(y, p),
            "max_error": metrics.max_error(y, p),
            "medae": metrics.median_absolute_error(y, p),
            "r2": metrics.r2_score(y, p),
            "rmse": metrics.root_mean_squared_error(y, p),
        }
    two = scores.shape[1] == 2
    labels = truth.astype(int)
    decided = scores.argmax(axis=1)
    average = "binary" if two else "macro"
    hot = np.eye(scores.shape[1])[labels]
    ranked = (labels, scores[:, 1]) if two else (hot, scores)
    return {
        "accuracy": metrics.accuracy_score(labels, decided),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, decided),
        "brier": metrics.brier_score_loss(labels, scores[:, 1]) if two else ((scores - hot) ** 2).sum(axis=1).mean(),
        "f1": metrics.f1_score(labels, decided, average=average),
        "log_loss": metrics.log_loss(labels, scores),
        "mcc": metrics.matthews_corrcoef(labels, decided),
        "pr_auc": metrics.average_precision_score(*ranked),
        "precision": metrics.precision_score(labels, decided, average=average),
        "recall": metrics.recall_score(labels, decided, average=average),
        "roc_auc": metrics.roc_auc_score(*ranked),
    }


def measured(case, folder):
    scores = np.fromfile(os.path.join(folder, f"{case['name']} scores")).reshape(-1, case["columns"])
    truth = np.fromfile(os.path.join(folder, f"{case['name']} truth"))
    for name, value in expected_metrics(scores, truth).items():
        found = case["metrics"][name]
        assert abs(found - value) <= TOLERANCE * max(1, abs(value)), f"{name} is {found}, and {value} is expected"


def main(folder, data):
    weather = pd.read_csv(data, parse_dates=["time_hour"])
    weather = weather[weather.visib.notna()].reset_index(drop=True)
    with open(os.path.join(folder, "cases.json")) as file:
        cases = json.load(file)
    for case in cases:
        try:
            measured(case, folder) if case["kind"] == "metrics" else features(case, folder, weather)
        except AssertionError as error:
            sys.exit(f"{case['name']}: {error}")
        print(f"{case['name']}: agrees")


if __name__ == "__main__":
    main(*sys.argv[1:])
