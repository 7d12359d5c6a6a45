"""The Dockerfile, compose.yaml and the proxies: checked by the tools that read them, and against what visavis takes."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from visavis.bot.settings import PREFIX, Settings, load_settings
from visavis.models import model_server

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
FOREIGN_VARIABLES = {"OTEL_EXPORTER_OTLP_ENDPOINT", "SLACK_BOT_TOKEN", "SLACK_APP_TOKEN", "DISCORD_TOKEN"}


def ran(*command: str, **environment: str) -> None:
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment, cwd=DEPLOY)
    assert run.returncode == 0, run.stdout + run.stderr


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed")


def filled_in() -> dict[str, str]:
    """`.env.example` with its secrets filled in."""
    lines = [
        line.split("=", 1) for line in (DEPLOY / ".env.example").read_text().splitlines() if re.match(r"\w+=", line)
    ]
    return dict(lines) | {"REDIS_PASSWORD": "r" * 32, "GRAFANA_PASSWORD": "g" * 32, "VISAVIS_ALLOW_PUBLIC": "1"}


def interpolated(text: str, variables: dict[str, str]) -> str:
    """As docker compose does it: ${NAME}, ${NAME:-default}, ${NAME:?}, $$."""

    def value(match: re.Match[str]) -> str:
        name, mode, default = match.groups()
        found = variables.get(name, "")
        assert found or mode != ":?", f"{name} is needed"
        assert name in variables, f"{name} is not in .env.example"
        return found or default or ""

    return re.sub(r"(?<!\$)\$\{(\w+)(?:(:[-?])([^}]*))?\}", value, text).replace("$$", "$")


@pytest.fixture(scope="module")
def composed() -> dict[str, Any]:
    def fill(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: fill(value) for name, value in part.items()}
        if isinstance(part, list):
            return [fill(value) for value in part]
        return interpolated(part, filled_in()) if isinstance(part, str) else part

    file: dict[str, Any] = fill(yaml.safe_load(COMPOSE.read_text()))
    return file


def ours(composed: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((name, one) for name, one in composed["services"].items() if one["image"].startswith("visavis:"))


@needs("hadolint")
def test_hadolint_finds_nothing() -> None:
    ran("hadolint", "Dockerfile")


def test_images_run_as_nobody_and_are_pinned_and_checked() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    assert re.search(r"^ARG PYTHON=python:3\.\d+\.\d+-slim-\w+$", text, re.M)
    assert re.search(r"^USER 10001:10001$", text, re.M) and "HEALTHCHECK" in text
    root = DEPLOY.parent
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.M):
        for name in source.split():
            assert (root / name).exists(), name
            assert f"!{name}" in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()


def test_compose_fits_its_schema(composed: dict[str, Any]) -> None:
    schema = pytest.importorskip("compose_spec").ComposeSpecification
    schema.model_validate({name: part for name, part in composed.items() if not name.startswith("x-")})
    with pytest.raises(ValueError):
        schema.model_validate({"services": {"a": {"image": "b", "depends_on": 7}}})


def test_every_service_is_hardened_pinned_and_looked_after(composed: dict[str, Any]) -> None:
    for name, service in composed["services"].items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert re.search(r":v?\d+\.\d+", service["image"]), f"{name}: {service['image']}"
        assert "healthcheck" in service or service["image"].startswith("visavis:"), name
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            assert source in composed["volumes"] or (DEPLOY / source).exists(), mount
        for network in service["networks"]:
            assert network in composed["networks"]
        for other in service.get("depends_on", ()):
            assert other in composed["services"]


def test_only_the_proxy_and_grafana_on_loopback_can_be_reached(composed: dict[str, Any]) -> None:
    open_ports = {name: one["ports"] for name, one in composed["services"].items() if "ports" in one}
    assert set(open_ports) == {"proxy", "grafana"}
    assert all(port.startswith("127.0.0.1:") for port in open_ports["grafana"])
    assert composed["networks"]["back"] == {"internal": True}
    assert composed["services"]["redis"]["networks"] == ["back"]


def test_what_it_sets_are_settings_and_they_are_taken(
    composed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, service in ours(composed):
        variables = service.get("environment", {})
        known = {PREFIX + field.upper() for field in Settings.model_fields} | FOREIGN_VARIABLES
        assert set(variables) <= known, name
        for variable, value in variables.items():
            monkeypatch.setenv(variable, str(value))
        settings = load_settings()
        if name == "gateway":
            assert settings.model_address("embedded") == "http://model:9000/v1"
            assert settings.trusted_proxies == (composed["services"]["proxy"]["networks"]["front"]["ipv4_address"],)


def test_its_commands_are_taken(composed: dict[str, Any]) -> None:
    for name, service in ours(composed):
        if "entrypoint" in service:
            assert service["entrypoint"] == ["python", "-m", "visavis.models.model_server"]
            assert model_server._parse(service["command"]).port == 9000
        else:
            assert service["command"] in (["serve"], ["slack"], ["discord"]), name


def shell_scripts(part: Any) -> Iterator[str]:
    """What is given to `sh -c` anywhere in a file."""
    if isinstance(part, dict):
        for name in ("entrypoint", "command"):
            if part.get(name) == ["sh", "-c"]:
                yield part["args" if name == "command" else "command"][0]
        for one in part.values():
            yield from shell_scripts(one)
    elif isinstance(part, list):
        if part[:2] == ["sh", "-c"] or part[:1] == ["CMD-SHELL"]:
            yield from part[1:] if part[0] == "CMD-SHELL" else part[2:]
        for one in part:
            yield from shell_scripts(one)


@needs("shellcheck")
def test_shellcheck_finds_nothing_in_what_is_given_to_a_shell(composed: dict[str, Any]) -> None:
    redis = yaml.safe_load_all((DEPLOY / "kubernetes/base/redis.yaml").read_text())
    scripts = [*shell_scripts(composed), *shell_scripts(list(redis))]
    assert len(scripts) == 5, scripts
    for script in scripts:
        run = subprocess.run(["shellcheck", "-s", "sh", "-"], input=script, capture_output=True, text=True, check=False)
        assert run.returncode == 0, script + run.stdout


@needs("redis-server")
def test_redis_starts_as_written_wants_its_password_and_keeps_a_log(composed: dict[str, Any], tmp_path: Path) -> None:
    service = composed["services"]["redis"]
    script = f"{service['command'][0]} --port 0 --unixsocket {tmp_path}/r.sock --dir {tmp_path}"
    process = subprocess.Popen(
        [*service["entrypoint"], script], env=os.environ | service["environment"], stdout=subprocess.DEVNULL
    )
    try:
        while not (tmp_path / "r.sock").exists():
            assert process.poll() is None
            time.sleep(0.02)
        cli, secret = ["redis-cli", "-s", f"{tmp_path}/r.sock"], service["environment"]["REDIS_PASSWORD"]
        refused = subprocess.run([*cli, "ping"], capture_output=True, text=True, check=True).stdout
        assert "NOAUTH" in refused
        let_in = os.environ | {"REDISCLI_AUTH": secret}
        told = subprocess.run(
            [*cli, "config", "get", "appendonly"], capture_output=True, text=True, env=let_in, check=True
        )
        assert told.stdout.split() == ["appendonly", "yes"]
        assert secret.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
    finally:
        subprocess.run(
            ["redis-cli", "-s", f"{tmp_path}/r.sock", "-a", "r" * 32, "shutdown"], capture_output=True, check=False
        )
        process.wait(10)


@needs("caddy")
def test_caddy_takes_its_file() -> None:
    ran("caddy", "validate", "--adapter", "caddyfile", "--config", "Caddyfile", SITE_ADDRESS="localhost")


@needs("nginx")
@needs("openssl")
def test_nginx_takes_its_file(tmp_path: Path) -> None:
    key, certificate = tmp_path / "k.pem", tmp_path / "c.pem"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=a"]
    subprocess.run([*request, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    block = (DEPLOY / "nginx.conf").read_text()
    block = re.sub(r"/etc/ssl/certs/\S+\.pem", str(certificate), block)
    block = re.sub(r"/etc/ssl/private/\S+\.key", str(key), block)
    logs = f"pid {tmp_path}/pid; error_log stderr;"
    (tmp_path / "nginx.conf").write_text(f"{logs}\nevents {{}}\nhttp {{ access_log off;\n{block}\n}}\n")
    ran("nginx", "-t", "-q", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"))


@pytest.mark.parametrize("proxy", ["nginx.conf", "Caddyfile", "kubernetes/base/ingress.yaml"])
def test_proxies_let_pictures_and_long_answers_through_and_metrics_stay_inside(proxy: str) -> None:
    text = (DEPLOY / proxy).read_text()
    assert re.search(r"21m\b|21MB", text)
    assert re.search(r"read_timeout\s+1h|stream_timeout 24h|proxy-read-timeout: \"3600\"", text)
    assert "metrics" in text


def test_the_probe_tells_whether_something_answers() -> None:
    (answer,) = {
        subprocess.run([sys.executable, str(DEPLOY / "probe.py"), "http://127.0.0.1:1/"], check=False).returncode
    }
    assert answer == 1
