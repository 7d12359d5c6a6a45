"""The manifests for Kubernetes: against the schemas of Kubernetes, and what they promise of every pod."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from visavis.bot.settings import PREFIX, Settings
from visavis.models import model_server

KUBERNETES = Path(__file__).parents[2] / "deploy/kubernetes"
BASE, GPU = KUBERNETES / "base", KUBERNETES / "overlays/gpu"
WITH_PODS = ("Deployment", "StatefulSet", "RayService")
Resource = dict[str, Any]


def resources(folder: Path) -> list[Resource]:
    names = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    files = [folder / name for name in names if name.endswith(".yaml")]
    return [one for file in files for one in yaml.safe_load_all(file.read_text())]


def named(found: list[Resource], kind: str, name: str) -> Resource:
    return next(one for one in found if one["kind"] == kind and one["metadata"]["name"] == name)


def templates(found: list[Resource]) -> Iterator[Resource]:
    """The templates of all pods, with what they are called."""
    for one in found:
        if one["kind"] == "RayService":
            cluster = one["spec"]["rayClusterConfig"]
            yield from (group["template"] for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]])
        elif one["kind"] in WITH_PODS:
            yield one["spec"]["template"]


@pytest.mark.parametrize("folder", [BASE, GPU], ids=["base", "gpu"])
def test_every_resource_fits_the_schema_of_kubernetes(folder: Path) -> None:
    check = pytest.importorskip("kubernetes_validate")
    found = resources(folder)
    pods = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": one["spec"]} for one in templates(found)
    ]
    for one in [*(one for one in found if one["kind"] != "RayService"), *pods]:
        check.validate(one, "1.34", strict=True)
    with pytest.raises(check.ValidationError):
        check.validate(pods[0] | {"specs": {}}, "1.34", strict=True)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("folder", [BASE, GPU], ids=["base", "gpu"])
def test_kustomize_builds_it_and_nothing_points_into_the_void(folder: Path) -> None:
    run = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    built = list(yaml.safe_load_all(run.stdout))
    assert {one["metadata"].get("namespace", "visavis") for one in built} == {"visavis"}
    pods = [one["metadata"]["labels"]["app.kubernetes.io/name"] for one in templates(built)]
    for service in (one for one in built if one["kind"] == "Service" and "selector" in one["spec"]):
        assert service["spec"]["selector"]["app.kubernetes.io/name"] in pods
    for scaler in (one for one in built if one["kind"] == "HorizontalPodAutoscaler"):
        assert named(built, scaler["spec"]["scaleTargetRef"]["kind"], scaler["spec"]["scaleTargetRef"]["name"])
    images = {one["image"] for template in templates(built) for one in template["spec"]["containers"]}
    assert all(re.search(r":\d+\.\d+", image) for image in images), images
    address = named(built, "ConfigMap", "visavis")["data"]["VISAVIS_MODEL_URLS"]
    service = re.search(r"http://([\w-]+):", address)
    assert service is not None
    assert service[1] in {one["metadata"]["name"] for one in built if one["kind"] == "Service"} | {"model-serve-svc"}
    assert (service[1] == "model-serve-svc") == any(one["kind"] == "RayService" for one in built)


@pytest.mark.parametrize("folder", [BASE, GPU], ids=["base", "gpu"])
def test_no_pod_is_root_or_writes_its_root_or_may_more_than_it_needs(folder: Path) -> None:
    found = list(templates(resources(folder)))
    assert found
    for template in found:
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["seccompProfile"]
        for container in spec["containers"]:
            may = container["securityContext"]
            assert may["readOnlyRootFilesystem"] and not may["allowPrivilegeEscalation"]
            assert may["capabilities"]["drop"] == ["ALL"]
            assert {"requests", "limits"} <= set(container["resources"])


def test_who_answers_is_probed_drained_and_kept_while_nodes_change() -> None:
    found = resources(BASE)
    for name in ("gateway", "model"):
        spec = named(found, "Deployment", name)["spec"]
        assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
        (container,) = spec["template"]["spec"]["containers"]
        assert {"startupProbe", "readinessProbe", "livenessProbe", "lifecycle"} <= set(container)
        assert named(found, "PodDisruptionBudget", name)
    metric = named(found, "HorizontalPodAutoscaler", "model")["spec"]["metrics"][0]["pods"]["metric"]["name"]
    assert metric == "visavis_requests_waiting"
    assert metric in (KUBERNETES / "prometheus-adapter.yaml").read_text()


def test_secrets_come_by_reference_and_settings_are_settings() -> None:
    found = resources(BASE)
    assert not [one for one in found if one["kind"] == "Secret"]
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    assert set(named(found, "ConfigMap", "visavis")["data"]) <= known
    secret = set()
    for template in templates(found):
        for container in template["spec"]["containers"]:
            for variable in container.get("env", ()):
                assert variable["name"] in known | {"REDIS_PASSWORD"}
                if "valueFrom" in variable:
                    secret.add(variable["name"])
    assert secret == {"REDIS_PASSWORD", "VISAVIS_EMBED_SECRET", "VISAVIS_API_KEYS"}


def test_the_model_servers_flags_are_taken_and_its_port_is_the_services() -> None:
    found = resources(BASE)
    (container,) = named(found, "Deployment", "model")["spec"]["template"]["spec"]["containers"]
    assert model_server._parse(container["args"]).port == container["ports"][0]["containerPort"] == 9000


def test_nobody_may_talk_to_redis_but_gateways() -> None:
    found = resources(BASE)
    assert named(found, "NetworkPolicy", "nobody")["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    (rule,) = named(found, "NetworkPolicy", "redis")["spec"]["ingress"]
    assert rule["from"] == [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "gateway"}}}]
