"""Checks what compose makes of its file, as JSON: compose.py GRISTMILL CONFIG.json COLLECTOR.yaml PROMETHEUS.yaml"""

import json
import os
import re
import sys

import yaml

from problems import Problems
from program import Program

# A worker's process has 30 s to end.
GRACE_SECONDS_MIN = 35
# Who ends with what it has done, and has nothing to be asked.
ONE_OFF = {"bucket"}
# Whose image has nothing to ask it with.
UNASKED = {"collector", "jaeger"}
PARTS = ("receivers", "processors", "exporters")


def seconds(text):
    minutes, rest = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", text or "10s").groups()
    return int(minutes or 0) * 60 + int(rest or 0)


def check_ours(name, service, program, problems):
    want = lambda holds, text: problems.want(holds, f"compose: {name}: {text}")
    want(seconds(service.get("stop_grace_period")) >= GRACE_SECONDS_MIN, "is killed within a drain")
    want(service.get("read_only") is True, "its root file system can be written")
    want(service.get("cap_drop") == ["ALL"], "keeps capabilities")
    want("no-new-privileges:true" in service.get("security_opt", []), "may gain privileges")
    complaint = program.complaint(service["command"])
    want(complaint is None, complaint)
    for variable in service["environment"]:
        known = not variable.startswith("GRISTMILL_") or variable in program.variables()
        want(known, f"the program reads no {variable}")


def check_services(config, program, problems):
    for name, service in config["services"].items():
        want = lambda holds, text: problems.want(holds, f"compose: {name}: {text}")
        limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
        want("memory" in limits and "cpus" in limits, "has no limits")
        want(service.get("restart"), "doesn't come back")
        want(not re.search(r"(:latest)$|^[^:]+$", service["image"]) or service["image"].startswith("gristmill"), "has no version")
        for port in service.get("ports", []):
            want(port.get("host_ip") == "127.0.0.1", f"port {port['published']} is open to the world")
        ours = service["image"] == "gristmill:latest"
        want(ours or name in ONE_OFF | UNASKED or "healthcheck" in service, "has no health check")
        for other, how in service.get("depends_on", {}).items():
            asked = "healthcheck" in config["services"][other]
            want(how["condition"] != "service_healthy" or asked, f"waits for {other} to be healthy, which nobody checks")
        if ours:
            check_ours(name, service, program, problems)


def check_configs(config, problems):
    configs = config["configs"]
    for name in ("rabbitmq.definitions", "s3.json"):
        try:
            json.loads(configs[name]["content"])
        except ValueError as error:
            problems.want(False, f"compose: {name} isn't JSON: {error}")
    for name in ("grafana.datasources", "grafana.dashboards"):
        yaml.safe_load(configs[name]["content"])
    redis = config["services"]["redis"]["command"]
    for words in (["--appendonly", "yes"], ["--maxmemory-policy", "noeviction"]):
        there = any(redis[index : index + 2] == words for index in range(len(redis)))
        problems.want(there, f"compose: redis isn't started with {' '.join(words)}")


def check_collector(path, problems):
    with open(path) as file:
        config = yaml.safe_load(file)
    used = {part: set() for part in PARTS}
    for name, pipeline in config["service"]["pipelines"].items():
        problems.want(name.split("/")[0] in ("traces", "metrics", "logs"), f"{path}: no pipeline is called {name}")
        problems.want(pipeline["processors"][0] == "memory_limiter", f"{path}: {name} must begin with memory_limiter")
        problems.want(pipeline["processors"][-1] == "batch", f"{path}: {name} must end with batch")
        for part in PARTS:
            used[part].update(pipeline[part])
    for part in PARTS:
        problems.want(used[part] == set(config[part]), f"{path}: {part} that are used and defined differ: {used[part] ^ set(config[part])}")
    extensions = set(config["service"]["extensions"])
    problems.want(extensions == set(config["extensions"]), f"{path}: extensions that are used and defined differ")
    limiter = config["processors"]["memory_limiter"]
    problems.want(limiter["spike_limit_mib"] < limiter["limit_mib"], f"{path}: memory_limiter's spike is above its limit")
    return config


def check_targets(prometheus, collector, config, problems):
    """Everything that one part is told of another is there: names of services, ports."""
    with open(prometheus) as file:
        jobs = yaml.safe_load(file)["scrape_configs"]
    for job in jobs:
        targets = [t for static in job.get("static_configs", []) for t in static["targets"]]
        names = [n for dns in job.get("dns_sd_configs", []) for n in dns["names"]] + [t.split(":")[0] for t in targets]
        for name in names:
            problems.want(name in config["services"], f"{prometheus}: {job['job_name']}: compose has no service {name}")
    host = collector["exporters"]["otlp/jaeger"]["endpoint"].split(":")[0]
    problems.want(host in config["services"], f"collector: compose has no service {host}")
    for name, service in config["services"].items():
        for variable, value in (service.get("environment") or {}).items():
            match = re.match(r"\w+://(?:[^@/]*@)?([\w.-]+)", str(value))
            if match and variable != "GRISTMILL_TRACE_URL" and not str(value).startswith("s3:"):
                problems.want(match[1] in config["services"], f"compose: {name}: {variable} names {match[1]}, which isn't there")
    for name, service in config["services"].items():
        for volume in service.get("volumes", []):
            if volume["type"] == "bind":
                problems.want(os.path.exists(volume["source"]), f"compose: {name}: {volume['source']} isn't there")


def main():
    program, problems = Program(sys.argv[1]), Problems()
    with open(sys.argv[2]) as file:
        config = json.load(file)
    check_services(config, program, problems)
    check_configs(config, problems)
    collector = check_collector(sys.argv[3], problems)
    check_targets(sys.argv[4], collector, config, problems)
    problems.end()


main()
