"""Checks rendered Kubernetes objects: manifests.py GRISTMILL FILE...

Each against the schemas of the oldest and the newest Kubernetes that the chart is for, custom resources against the models of
their operators, then what no schema knows: that names refer to something, and that nobody runs with more rights than needed.
"""

import re
import subprocess
import sys
import tempfile
import tomllib

import kubernetes_validate
import yaml
from cloudcoil.models.keda import v1alpha1 as keda
from cloudcoil.models.prometheus_operator import v1 as monitoring

from problems import Problems
from program import Program

VERSIONS = ("1.30", "1.37")
CUSTOM = {
    "ScaledObject": keda.ScaledObject,
    "TriggerAuthentication": keda.TriggerAuthentication,
    "PodMonitor": monitoring.PodMonitor,
    "ServiceMonitor": monitoring.ServiceMonitor,
    "PrometheusRule": monitoring.PrometheusRule,
}
# A worker hands back within 25 s and its process has 30 s to end.
GRACE_SECONDS_MIN = 35
SCALER = {
    "valueLocation": "wanted", "targetValue": "1", "activationTargetValue": "0",
    "authMode": "apiKey", "method": "header", "keyParamName": "Authorization",
}


def unknown_fields(given, understood, path=""):
    """Fields that a model has dropped: an API server would, too."""
    if isinstance(given, dict) and isinstance(understood, dict):
        for key, value in given.items():
            if key not in understood:
                yield f"{path}.{key}"
            else:
                yield from unknown_fields(value, understood[key], f"{path}.{key}")
    elif isinstance(given, list) and isinstance(understood, list):
        for index, (one, other) in enumerate(zip(given, understood)):
            yield from unknown_fields(one, other, f"{path}[{index}]")


def check_schema(each, problems, where):
    kind = each["kind"]
    if kind in CUSTOM:
        try:
            model = CUSTOM[kind].model_validate(each)
        except ValueError as error:
            problems.want(False, f"{where}: {error}")
            return
        understood = model.model_dump(mode="json", by_alias=True, exclude_unset=True)
        for field in unknown_fields(each, understood):
            problems.want(False, f"{where}: there is no field {field}")
        return
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(each, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            place = ".".join(str(item) for item in error.path)
            problems.want(False, f"{where}: Kubernetes {version}: {place}: {error.message}")


def check_pod(each, objects, program, problems, where):
    spec = each["spec"]["template"]["spec"]
    pod = spec.get("securityContext", {})
    want = lambda holds, text: problems.want(holds, f"{where}: {text}")
    want(pod.get("runAsNonRoot") and pod.get("runAsUser", 0) > 0, "must not run as root")
    want(pod.get("seccompProfile", {}).get("type") == "RuntimeDefault", "needs the default seccomp profile")
    want(spec.get("automountServiceAccountToken") is False, "mounts a token of the Kubernetes API")
    want(("ServiceAccount", spec["serviceAccountName"]) in objects, f"no ServiceAccount {spec['serviceAccountName']}")
    grace = spec.get("terminationGracePeriodSeconds", 30)
    want(grace >= GRACE_SECONDS_MIN, f"is killed after {grace} s, within a drain")
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    for volume in volumes.values():
        want("hostPath" not in volume, f"volume {volume['name']} is the node's")
    for container in spec["containers"]:
        security = container.get("securityContext", {})
        want(security.get("readOnlyRootFilesystem") is True, "its root file system can be written")
        want(security.get("allowPrivilegeEscalation") is False, "may gain privileges")
        want(security.get("capabilities", {}).get("drop") == ["ALL"], "keeps capabilities")
        resources = container.get("resources", {})
        want("memory" in resources.get("limits", {}), "has no limit of memory")
        want({"cpu", "memory"} <= set(resources.get("requests", {})), "requests no cpu or memory")
        ports = {port["name"] for port in container.get("ports", [])}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            want(container.get(probe, {}).get("httpGet", {}).get("port") in ports, f"{probe} asks no port of its own")
        for variable in container.get("env", []):
            value = variable.get("value", "")
            secret = re.search(r"://[^/]*:[^/]*@", value) or "PASSWORD" in variable["name"] or "SECRET" in variable["name"]
            want(not (value and secret), f"{variable['name']} is a secret in the open")
            if variable["name"].startswith("GRISTMILL_"):
                want(variable["name"] in program.variables(), f"the program reads no {variable['name']}")
        for mount in container.get("volumeMounts", []):
            want(mount["name"] in volumes, f"there is no volume {mount['name']}")
        complaint = program.complaint(container["args"])
        want(complaint is None, complaint)


def selects(selector, labels):
    if not all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()):
        return False
    return all(labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", []))


def check_references(each, pods, objects, problems, where):
    kind, spec = each["kind"], each.get("spec", {})
    selector = {
        "Service": lambda: {"matchLabels": spec["selector"]},
        "PodDisruptionBudget": lambda: spec["selector"],
        "NetworkPolicy": lambda: spec["podSelector"],
        "PodMonitor": lambda: spec["selector"],
    }.get(kind)
    found = [pod for pod in pods if selector and selects(selector(), pod["spec"]["template"]["metadata"]["labels"])]
    problems.want(not selector or found, f"{where}: selects no pod")
    names = {port["name"] for pod in found for c in pod["spec"]["template"]["spec"]["containers"] for port in c["ports"]}
    if kind == "Service":
        for port in spec["ports"]:
            problems.want(port["targetPort"] in names, f"{where}: no container has the port {port['targetPort']}")
    if kind == "NetworkPolicy":
        for rule in spec.get("ingress") or []:
            for port in rule.get("ports", []):
                problems.want(port["port"] in names, f"{where}: no container has the port {port['port']}")
    if kind == "Ingress":
        for rule in spec["rules"]:
            for path in rule["http"]["paths"]:
                name = path["backend"]["service"]["name"]
                problems.want(("Service", name) in objects, f"{where}: no Service {name}")
    if kind == "HorizontalPodAutoscaler":
        target = objects.get(("Deployment", spec["scaleTargetRef"]["name"]))
        problems.want(target and "replicas" not in target["spec"], f"{where}: its Deployment isn't there, or says replicas itself")


def check_scaler(each, objects, problems, where):
    spec = each["spec"]
    target = objects.get(("Deployment", spec["scaleTargetRef"]["name"]))
    want = lambda holds, text: problems.want(holds, f"{where}: {text}")
    want(target is not None, "its Deployment isn't there")
    if target is None:
        return
    want("replicas" not in target["spec"], "its Deployment says replicas itself, and each upgrade would set them back")
    (trigger,) = spec["triggers"]
    metadata = dict(trigger["metadata"])
    match = re.fullmatch(r"https?://([^.]+)\.[^:]+:(\d+)/v1/pools/([^/]+)/scale", metadata.pop("url", ""))
    want(trigger["type"] == "metrics-api" and trigger["metricType"] == "AverageValue", "isn't metrics-api by AverageValue")
    want(metadata == SCALER, f"asks for {metadata}, and {SCALER} is what the API answers")
    want(match is not None, "has no URL of a pool")
    if match:
        service = objects.get(("Service", match[1]))
        ports = [port["port"] for port in service["spec"]["ports"]] if service else []
        want(int(match[2]) in ports, f"there is no Service {match[1]} with port {match[2]}")
        want(match[3] == target["metadata"]["labels"]["gristmill.io/pool"], "asks for another pool than it scales")
        args = target["spec"]["template"]["spec"]["containers"][0]["args"]
        want(args[args.index("--pools") + 1] == match[3], "its workers serve another pool")
    authentication = objects.get(("TriggerAuthentication", trigger["authenticationRef"]["name"]))
    want(authentication is not None, "its TriggerAuthentication isn't there")
    if authentication:
        parameters = [one["parameter"] for one in authentication["spec"]["secretTargetRef"]]
        want("apiKey" in parameters, "its TriggerAuthentication gives no apiKey")


def check_settings(each, program, problems, where):
    """gristmill.toml: that it is TOML, and that the program takes it where it knows pools."""
    text = each["data"]["gristmill.toml"]
    try:
        pools = tomllib.loads(text)["pools"]
    except (tomllib.TOMLDecodeError, KeyError) as error:
        problems.want(False, f"{where}: {error}")
        return
    for name, pool in pools.items():
        problems.want(pool["min"] <= pool["max"], f"{where}: pool {name} has a min above its max")
    if not program.has_pools():
        return
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/gristmill.toml"
        with open(path, "w") as file:
            file.write(text)
        command = [program.path, "--config", path, "--home", f"{folder}/home", "runs"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        problems.want("can't be understood" not in done.stderr, f"{where}: {done.stderr.strip()}")


def main():
    program, problems = Program(sys.argv[1]), Problems()
    for file in sys.argv[2:]:
        with open(file) as stream:
            each_of_all = [each for each in yaml.safe_load_all(stream) if each]
        problems.want(each_of_all, f"{file}: is empty")
        objects = {(each["kind"], each["metadata"]["name"]): each for each in each_of_all}
        problems.want(len(objects) == len(each_of_all), f"{file}: two objects have one name")
        pods = [each for each in each_of_all if each["kind"] == "Deployment"]
        for each in each_of_all:
            where = f"{file}: {each['kind']}/{each['metadata']['name']}"
            check_schema(each, problems, where)
            check_references(each, pods, objects, problems, where)
            problems.want(each["kind"] != "Secret", f"{where}: the chart makes a Secret")
            if each["kind"] == "Deployment":
                check_pod(each, objects, program, problems, where)
            if each["kind"] == "ScaledObject":
                check_scaler(each, objects, problems, where)
            if "gristmill.toml" in each.get("data", {}):
                check_settings(each, program, problems, where)
    problems.end()


main()
