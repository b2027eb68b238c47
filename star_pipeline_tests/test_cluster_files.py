"""The files for Docker and Kubernetes speak of what there is: images, variables, modules, commands; their own tools take them."""

import ast
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml

import star_pipeline
from star_pipeline.config import load_config
from star_pipeline.instance.console import LOCATION
from star_pipeline.instance.home import CLUSTER_YAML, DAGSTER_YAML, database_of
from star_pipeline_tests.ports import free_port

PACKAGE = Path(star_pipeline.__file__).parent
FILES = PACKAGE / "guides" / "cluster"
COMPOSE = (FILES / "compose.yaml").read_text("utf-8")
VALUES = yaml.safe_load((FILES / "values.yaml").read_text("utf-8"))
GUIDE = (PACKAGE / "guides" / "beyond-one-machine.md").read_text("utf-8")
DOCKERFILE = (FILES / "Dockerfile").read_text("utf-8")
STAR = yaml.safe_load(COMPOSE)["x-star"]
SERVICES = yaml.safe_load(COMPOSE)["services"]
SCRIPTS = {entry.name for entry in metadata.entry_points(group="console_scripts")}
HEALTH = "dagster api grpc-health-check"
OURS = re.compile(r"\b(?:STAR|DAGSTER)_[A-Z_]+\b")


def known(variable):
    """Whether the package, or Dagster, reads the variable; what is handed to a user's configuration apart."""
    if variable in ("DAGSTER_HOME", "DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS") or variable.startswith("AWS_"):
        return True
    said = f'"{variable}"'
    return any(said in path.read_text("utf-8") for path in PACKAGE.rglob("*.py"))


def has(module, name):
    """Whether a module of ours defines a class, without what it imports: the launchers' packages need not be installed."""
    source = importlib.util.find_spec(module).origin
    tree = ast.parse(Path(source).read_text("utf-8"))
    return any(isinstance(node, ast.ClassDef) and node.name == name for node in tree.body)


def test_every_service_of_ours_runs_a_command_that_is_there_on_the_definitions_that_are_there():
    ours = {name: service for name, service in SERVICES.items() if service["image"] == STAR["image"]}
    assert ours.keys() == {"code", "webserver", "daemon"}
    for service in ours.values():
        assert service["command"][0] in SCRIPTS
        for flag, value in zip(service["command"], service["command"][1:], strict=False):
            assert flag != "-m" or importlib.util.find_spec(value)


def test_webserver_and_daemon_start_when_the_code_server_answers():
    health = SERVICES["code"]["healthcheck"]["test"]
    port = SERVICES["code"]["command"][SERVICES["code"]["command"].index("-p") + 1]
    assert health == ["CMD", *HEALTH.split(), "-p", port]
    [deployment] = VALUES["dagster-user-deployments"]["deployments"]
    image, ready = deployment["image"], f"{HEALTH} -h {deployment['name']} -p {deployment['port']}"
    for name in ("webserver", "daemon"):
        assert SERVICES[name]["depends_on"]["code"] == {"condition": "service_healthy"}
        [waits] = VALUES[f"dagster{name.capitalize()}"]["extraPrependedInitContainers"]
        assert waits["image"] == f"{image['repository']}:{image['tag']}"
        assert waits["command"] == ["sh", "-c", f"until {ready}; do sleep 2; done"]
        shown = GUIDE.index(f"\n   until {HEALTH} -h code.example.org -p 4000; do sleep 1; done\n")
        assert GUIDE.index("\n   dagster api grpc -m") < shown < GUIDE.index(f"\n   dagster-{name} ")
    nobody = [*HEALTH.split()[1:], "-h", "127.0.0.1", "-p", str(free_port())]
    said = subprocess.run([Path(sys.executable).with_name("dagster"), *nobody], capture_output=True, text=True)
    assert (said.returncode, "Unable to connect" in said.stdout) == (1, True), said.stderr


def test_compose_names_services_files_and_places_that_it_has():
    whole = yaml.safe_load(COMPOSE)
    hosts = re.findall(
        r"(?:@|//|-master=|-filer=|-ip=|host: )([a-z]\w+)(?=[:,/\"])", COMPOSE.partition("name: star")[2]
    )
    assert {"postgres", "s3", "code"} <= set(hosts) <= {*SERVICES, "star"}  # star is the user, and the bucket
    for service in SERVICES.values():
        assert set(service.get("depends_on", ())) <= SERVICES.keys()
        assert {one["source"] for one in service.get("configs", ())} <= whole["configs"].keys()
        assert {one.partition(":")[0] for one in service.get("volumes", ())} <= whole["volumes"].keys()
    places = {one["target"] for one in STAR["configs"]}
    assert STAR["environment"]["STAR_CONFIG"] in places
    for name in ("webserver", "daemon"):
        assert SERVICES[name]["command"][SERVICES[name]["command"].index("-w") + 1] in places
    [server] = [entry["grpc_server"] for entry in yaml.safe_load(whole["configs"]["workspace"]["content"])["load_from"]]
    assert (server["host"], server["location_name"]) == ("code", LOCATION)
    assert str(server["port"]) == SERVICES["code"]["command"][SERVICES["code"]["command"].index("-p") + 1]
    assert (FILES / STAR["build"]["context"] / STAR["build"]["dockerfile"]).resolve() == FILES / "Dockerfile"


def test_every_variable_is_read_by_somebody_and_the_database_s_is_the_one_that_the_configuration_names():
    values = (FILES / "values.yaml").read_text("utf-8")
    found = {*OURS.findall(COMPOSE), *OURS.findall(values), *OURS.findall(DOCKERFILE)}
    found -= {"DAGSTER_K8S_PIPELINE_RUN_ENV_CONFIGMAP"}
    assert {"STAR_LAKE", "STAR_CONFIG", "STAR_DATABASE", "DAGSTER_HOME"} <= found
    found -= {"STAR_DATABASE"}  # the configuration and the settings name it
    assert {variable for variable in found if not known(variable)} == set()
    assert "env: STAR_DATABASE" in CLUSTER_YAML


def test_the_configuration_beside_them_is_one(tmp_path):
    path = tmp_path / "star.yaml"
    path.write_text((FILES / "star.yaml.example").read_text("utf-8"))
    assert database_of(load_config(str(path))) == "STAR_DATABASE"


def test_the_image_installs_what_there_is():
    [extras] = re.findall(r'"/src\[(\w+)\]"', DOCKERFILE)
    assert f"\n{extras} = [" in (PACKAGE.parent / "pyproject.toml").read_text("utf-8")
    for copied in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE):
        assert all((PACKAGE.parent / name).exists() for name in copied.split())
    [code] = re.findall(r'python -c "(.+?)" >', DOCKERFILE)
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout == CLUSTER_YAML


def test_kubernetes_gets_the_same_queue_retries_and_monitoring_as_one_machine():
    local = yaml.safe_load(DAGSTER_YAML)
    daemon, more = VALUES["dagsterDaemon"], VALUES["additionalInstanceConfig"]
    coordinator = daemon["runCoordinator"]["config"]["customRunCoordinator"]
    assert coordinator == local["run_coordinator"]
    assert more == {name: local[name] for name in ("concurrency", "run_retries")}
    assert daemon["runRetries"]["enabled"] is False  # else the key would be there twice
    monitoring = daemon["runMonitoring"]
    for ours, theirs in (
        ("poll_interval_seconds", "pollIntervalSeconds"),
        ("cancel_timeout_seconds", "cancelTimeoutSeconds"),
    ):
        assert local["run_monitoring"][ours] == monitoring[theirs]
    assert monitoring["maxResumeRunAttempts"] == 0
    launcher = VALUES["runLauncher"]["config"]["customRunLauncher"]
    assert has(launcher["module"], launcher["class"])
    assert has("star_pipeline.instance.docker", "ShardDockerLauncher")
    [server] = VALUES["dagsterWebserver"]["workspace"]["servers"]
    [deployment] = VALUES["dagster-user-deployments"]["deployments"]
    assert (server["host"], server["port"], server["name"]) == (deployment["name"], deployment["port"], LOCATION)
    assert deployment["dagsterApiGrpcArgs"] == ["-m", LOCATION]
    named = {entry["name"]: entry["value"] for entry in deployment["env"]}
    mounted = deployment["volumeMounts"][0]["mountPath"]
    assert named["STAR_CONFIG"] == f"{mounted}/star.yaml"


@pytest.mark.parametrize(
    ("module", "name", "package"),
    [("docker", "ShardDockerLauncher", "dagster_docker"), ("kubernetes", "ShardK8sLauncher", "dagster_k8s")],
)
def test_the_launchers_take_their_package_s_settings_and_keep_the_shards_order(module, name, package, monkeypatch):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package.replace('_', '-')} is not installed")
    from dagster._config import process_config, resolve_to_config_type

    from star_pipeline.instance.queue import ShardOrder

    launcher = getattr(importlib.import_module(f"star_pipeline.instance.{module}"), name)
    assert launcher.__mro__[1] is ShardOrder
    assert not launcher.__abstractmethods__
    settings = VALUES["runLauncher"]["config"]["customRunLauncher"]["config"]
    if module == "docker":
        [shown] = re.findall(r"^```yaml\n(run_launcher:.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
        settings = yaml.safe_load(shown)["run_launcher"]["config"]
    monkeypatch.setenv("DAGSTER_HOME", "home")
    checked = process_config(resolve_to_config_type(launcher.config_type()), settings)
    assert checked.success, checked.errors


def test_docker_s_own_tool_takes_the_compose_file(tmp_path):
    tool = shutil.which("docker-compose")
    command = [tool] if tool else ["docker", "compose"]
    if not tool and (
        not shutil.which("docker") or subprocess.run([*command, "version"], capture_output=True).returncode
    ):
        pytest.skip("docker compose is not installed")
    shutil.copy(FILES / "compose.yaml", tmp_path)
    shutil.copy(FILES / "star.yaml.example", tmp_path / "star.yaml")
    environment = {**os.environ, "POSTGRES_PASSWORD": "p", "S3_KEY": "k", "S3_SECRET": "s"}
    whole = [*command, "-f", str(tmp_path / "compose.yaml"), "config", "--quiet"]
    assert subprocess.run(whole, env=environment, capture_output=True, text=True).stderr == ""
    refused = subprocess.run(whole, env={**environment, "S3_KEY": ""}, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "set a key" in refused.stderr
