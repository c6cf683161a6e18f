"""What ships beside the code agrees with the code: settings, metrics, ports, times."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.metrics import Metrics
from serving.settings import Settings
from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"
FILES = sorted(path for path in DEPLOY.iterdir() if path.is_file())
OF_PROMETHEUS = {"up"}


def text(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all(text(name)))


@pytest.fixture(scope="module")
def kubernetes() -> dict[str, Any]:
    return {document["kind"]: document for document in documents("kubernetes.yaml")}


@pytest.fixture(scope="module")
def container(kubernetes: dict[str, Any]) -> dict[str, Any]:
    (only,) = kubernetes["Deployment"]["spec"]["template"]["spec"]["containers"]
    return only  # type: ignore[no-any-return]


def image_environment() -> dict[str, str]:
    return dict(re.findall(r"(EMBARGO_[A-Z_]+)=(\S+)", text("Dockerfile")))


def metric_names() -> set[str]:
    """Every name under which Prometheus stores a number of ours."""
    names = set(OF_PROMETHEUS)
    for family in Metrics().registry.collect():
        if family.type == "histogram":
            names |= {f"{family.name}{suffix}" for suffix in ("_bucket", "_sum", "_count")}
        else:
            names.add(f"{family.name}_total" if family.type == "counter" else family.name)
    return names


def expressions() -> Iterator[str]:
    for panel in json.loads(text("grafana-dashboard.json"))["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    for group in documents("alerts.yml")[0]["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


def names_in(expression: str) -> set[str]:
    """What an expression selects: the names before braces, and those of ours without."""
    outside = re.sub(r'"[^"]*"', '""', expression)
    return set(re.findall(r"([a-zA-Z_:]+)\{", outside)) | set(re.findall(r"\b(?:embargo|http)_\w+", outside))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_file_can_be_read(path: Path) -> None:
    if path.suffix in (".yaml", ".yml"):
        assert all(documents(path.name))
    elif path.suffix == ".json":
        assert json.loads(path.read_bytes())
    else:
        assert path.read_text(encoding="utf-8").strip()


def test_no_duration_that_is_watched_is_that_of_a_stream() -> None:
    watched = [e for e in expressions() if "http_request_duration_seconds" in e]
    assert len(watched) >= 2  # a panel and an alert
    for expression in watched:
        selections = re.findall(r"http_request_duration_seconds\w*(\{[^}]*\}|)", expression)
        assert all('stream="false"' in selection for selection in selections), expression


def test_every_metric_that_is_watched_exists_and_every_one_that_exists_is_watched() -> None:
    known = metric_names()
    seen: set[str] = set()
    for expression in expressions():
        names = names_in(expression)
        assert names, expression
        assert names <= known, expression
        seen |= names
    seen |= {"embargo_queue_tokens"}
    families = {family.name for family in Metrics().registry.collect()}
    assert {name for name in families if not any(one.startswith(name) for one in seen)} == set()


def test_a_wrong_metric_would_be_noticed() -> None:
    assert not names_in('rate(embargo_unknown_total{job="embargo"}[5m])') <= metric_names()
    assert not names_in("embargo_typo > 5") <= metric_names()


def test_the_autoscaler_watches_the_queue(kubernetes: dict[str, Any]) -> None:
    (metric,) = kubernetes["HorizontalPodAutoscaler"]["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    assert name == "embargo_queue_tokens"
    assert name in metric_names()
    target = int(metric["pods"]["target"]["averageValue"])
    assert target < Settings.model_fields["max_queue_tokens"].default


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_setting_that_is_named_exists(path: Path) -> None:
    known = {f"EMBARGO_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"\bEMBARGO_[A-Z_]+", path.read_text(encoding="utf-8"))) <= known


def test_the_settings_that_are_given_are_valid(
    container: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (compose,) = documents("compose.yaml")
    of_compose = compose["services"]["embargo"]["environment"]
    of_pod = {entry["name"]: entry["value"] for entry in container["env"]}
    for given in (image_environment(), of_compose, of_pod):
        assert given
        with monkeypatch.context() as environment:
            for name, value in given.items():
                environment.setenv(name, value)
            settings = Settings()
        for name, value in given.items():
            assert str(getattr(settings, name.removeprefix("EMBARGO_").lower())) in (value, f"{value}.0")


def test_ports_agree(kubernetes: dict[str, Any], container: dict[str, Any]) -> None:
    port = int(image_environment()["EMBARGO_PORT"])
    assert f"EXPOSE {port}" in text("Dockerfile")
    (compose,) = documents("compose.yaml")
    assert compose["services"]["embargo"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert documents("prometheus.yml")[0]["scrape_configs"][0]["static_configs"][0]["targets"] == [
        f"embargo:{port}"
    ]
    (named,) = container["ports"]
    assert named["containerPort"] == port
    probes = [container[f"{kind}Probe"]["httpGet"]["port"] for kind in ("startup", "readiness", "liveness")]
    (served,) = kubernetes["Service"]["spec"]["ports"]
    assert {*probes, served["targetPort"]} == {named["name"]}
    annotations = kubernetes["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(port)


def test_there_is_time_to_answer_what_was_taken(
    kubernetes: dict[str, Any], container: dict[str, Any]
) -> None:
    pod = kubernetes["Deployment"]["spec"]["template"]["spec"]
    given = {entry["name"]: float(entry["value"]) for entry in container["env"]}
    draining, answering = given["EMBARGO_DRAIN_SECONDS"], given["EMBARGO_ANSWER_SECONDS"]
    before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= before + draining + answering
    readiness = container["readinessProbe"]
    assert draining >= readiness["periodSeconds"] * readiness["failureThreshold"]
    (compose,) = documents("compose.yaml")
    service = compose["services"]["embargo"]
    given = {name: float(value) for name, value in service["environment"].items()}
    grace = float(service["stop_grace_period"].removesuffix("s"))
    assert grace >= given["EMBARGO_DRAIN_SECONDS"] + given["EMBARGO_ANSWER_SECONDS"]


def test_the_pod_can_do_little_and_reads_its_own_settings(
    kubernetes: dict[str, Any], container: dict[str, Any]
) -> None:
    pod = kubernetes["Deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert f"USER {pod['securityContext']['runAsUser']}:" in text("Dockerfile")
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]
    assert pod["enableServiceLinks"] is False  # they would set EMBARGO_PORT
    threads = {entry["name"]: entry["value"] for entry in container["env"]}["EMBARGO_THREADS"]
    assert threads == container["resources"]["limits"]["cpu"]


def test_selectors_find_the_pods(kubernetes: dict[str, Any]) -> None:
    labels = kubernetes["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert kubernetes["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert kubernetes["Service"]["spec"]["selector"] == labels
    assert kubernetes["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    scaled = kubernetes["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"]
    assert scaled == kubernetes["Deployment"]["metadata"]["name"]


def test_what_the_image_is_built_from_exists_and_is_let_in() -> None:
    allowed = {line[1:] for line in text("Dockerfile.dockerignore").splitlines() if line.startswith("!")}
    copied: set[str] = set()
    for sources in re.findall(r"^COPY (?!--from)(.*) \S+$", text("Dockerfile"), re.MULTILINE):
        copied |= set(sources.split())
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)
    assert "--only-binary=:all:" in text("Dockerfile")


def test_files_that_compose_mounts_exist() -> None:
    (compose,) = documents("compose.yaml")
    mounted = [v for s in compose["services"].values() for v in s.get("volumes", []) if v.startswith("./")]
    assert len(mounted) == 3
    assert all((DEPLOY / volume.partition(":")[0]).is_file() for volume in mounted)
    assert documents("prometheus.yml")[0]["rule_files"] == ["alerts.yml"]
