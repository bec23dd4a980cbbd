"""Checks queries of dashboards and rules: dashboards.py METRICS RULES_OUT NEWER FOLDER RULES

METRICS is what real processes have served. Each metric that is asked for must have had a sample there, with the labels that are
asked for. RULES_OUT gets every query of the dashboards as a rule, for promtool to parse. NEWER is 1 where the program must serve
what comes with `gristmill pool`, too.
"""

import glob
import json
import re
import sys

import yaml

from problems import Problems

# Served from the first time that it happens: a short trial has no stream, shadow, canary or capture. Declared, though, and
# their labels are those of telemetry/src/metrics/names.rs.
RARE = {
    "gristmill_shadow_requests_total": {"endpoint", "outcome"},
    "gristmill_canary_rollbacks_total": {"endpoint"},
    "gristmill_queue_requests_total": {"queue", "outcome"},
    "gristmill_stream_messages_total": {"stream", "outcome"},
    "gristmill_stream_lag_messages": {"stream"},
    "gristmill_stream_lag_seconds": {"stream"},
    "gristmill_captured_requests_total": {"outcome"},
}
# Served by `gristmill pool` and by schedulers that know pools and budgets.
POOLS = {
    "gristmill_pool_wanted": {"pool"},
    "gristmill_pool_workers": {"pool", "state"},
    "gristmill_pool_work_seconds": {"pool"},
    "gristmill_pool_lost_total": {"pool"},
    "gristmill_pool_paid_seconds_total": {"pool"},
    "gristmill_budget_spent_ratio": {"budget"},
}
# What Prometheus adds.
ADDED = {"job", "instance", "le"}
NAME = re.compile(r"\bgristmill_[a-z_]+\b")


def served(text):
    """Declared names, and the labels of each name that had a sample."""
    declared, labels = set(), {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            declared.add(line.split()[2])
        elif match := re.match(r"(gristmill_[a-z_]+)(\{[^}]*\})? ", line):
            labels.setdefault(match[1], set()).update(re.findall(r"([a-z_]+)=\"", match[2] or ""))
    return declared, labels


def check_query(query, declared, labels, newer, problems, where):
    names = set(NAME.findall(query))
    problems.want(names or "up{" in query or "ALERTS" in query, f"{where}: asks for no metric of ours")
    known = set(ADDED)
    for name in names:
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        if name in RARE:
            problems.want(name in declared, f"{where}: the program declares no {name}")
            known |= RARE[name]
        elif name in POOLS:
            problems.want(not newer or name in declared, f"{where}: the program declares no {name}")
            known |= POOLS[name]
        else:
            what = "declares it, and never sets it" if base in declared else "has no such metric"
            problems.want(name in labels, f"{where}: {name}: the program {what}")
            known |= labels.get(name, set())
    if not names:
        return
    asked = set()
    for matchers in re.findall(r"gristmill_[a-z_]+\{([^}]*)\}", query):
        asked |= set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", matchers))
    for listed in re.findall(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)", query):
        asked |= {label.strip() for label in listed.split(",") if label.strip()}
    for label in asked - known:
        problems.want(False, f"{where}: no metric in it has the label {label}: {query}")


def plain(query):
    """A query with values in place of Grafana's variables."""
    return re.sub(r"\$\{?\w+\}?", "x", re.sub(r"\$__(rate_interval|interval|range)", "5m", query))


def check_board(path, problems, uids):
    """A dashboard's structure; yields (where, query)."""
    with open(path) as file:
        board = json.load(file)
    problems.want(board.get("uid") and board["uid"] not in uids, f"{path}: its uid is missing or another's")
    uids.add(board.get("uid"))
    problems.want(board.get("title"), f"{path}: has no title")
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    problems.want("datasource" in variables, f"{path}: has no variable for the data source")
    ids, taken = set(), {}
    for variable in variables.values():
        if variable["type"] == "query":
            yield f"{path}: variable {variable['name']}", re.match(r"label_values\(([^,]+),", variable["query"]["query"])[1]
    for panel in board["panels"]:
        where = f"{path}: panel {panel.get('title')!r}"
        problems.want(panel["id"] not in ids, f"{where}: its id is another's")
        ids.add(panel["id"])
        place = panel["gridPos"]
        problems.want(place["x"] + place["w"] <= 24, f"{where}: is wider than the grid")
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                problems.want((x, y) not in taken, f"{where}: lies over {taken.get((x, y))!r}")
                taken[x, y] = panel["title"]
        if panel["type"] == "row":
            continue
        problems.want(panel["targets"], f"{where}: asks for nothing")
        for target in panel["targets"]:
            problems.want(target["datasource"]["uid"] == "${datasource}", f"{where}: has a data source of its own")
            for name in re.findall(r"\$\{?(\w+)\}?", target["expr"]):
                problems.want(name in variables or name.startswith("__"), f"{where}: there is no variable ${name}")
            yield where, target["expr"]


def rule_queries(path):
    with open(path) as file:
        for group in yaml.safe_load(file)["groups"]:
            for rule in group["rules"]:
                yield f"{path}: {rule['alert']}", rule["expr"]


def main():
    metrics, out, newer, folder, rules = sys.argv[1:]
    problems, uids, queries = Problems(), set(), []
    with open(metrics) as file:
        declared, labels = served(file.read())
    for path in sorted(glob.glob(f"{folder}/*.json")):
        queries += check_board(path, problems, uids)
    with open(out, "w") as file:
        rules_out = [{"record": f"checked:query:{index}", "expr": plain(query)} for index, (_, query) in enumerate(queries)]
        json.dump({"groups": [{"name": "dashboards", "rules": rules_out}]}, file, indent=1)
    for where, query in [*queries, *rule_queries(rules)]:
        check_query(query, declared, labels, newer == "1", problems, where)
    problems.end()


main()
