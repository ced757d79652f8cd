"""cluster.yaml, the RayJob and what a submitted job ships, against Ray's own schema and code."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import shlex
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest
import ray.autoscaler
import yaml

from workflows import cli, cluster, evaluation
from workflows.extract import ExtractConfig

ROOT = Path(__file__).resolve().parents[1]
jsonschema = pytest.importorskip("jsonschema", reason="comes with ray[default]")


@pytest.fixture
def config() -> dict:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


@pytest.fixture
def job() -> dict:
    return yaml.safe_load((ROOT / "workflows/kuberay/rayjob.yaml").read_text())


def test_cluster_yaml_is_what_ray_accepts(config, monkeypatch):
    """As `ray up` does it: Ray's defaults are filled in, its schema is checked."""
    from ray.autoscaler._private import util

    monkeypatch.chdir(ROOT)  # file_mounts are relative to where `ray up` is run
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.validate(config, schema)
    util.validate_config(util.prepare_config(config))
    util.hash_runtime_conf(config["file_mounts"], [], "")  # raises where a local file is missing
    broken = {**config, "idle_timeout": 5}
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout"):
        jsonschema.validate(broken, schema)


def test_no_work_on_the_head_and_workers_on_spot(config):
    types = config["available_node_types"]
    head = types.pop(config["head_node_type"])
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert "--num-cpus=0 --num-gpus=0" in config["head_start_ray_commands"][1]
    spot = {
        name
        for name, one in types.items()
        if one["node_config"].get("InstanceMarketOptions", {}).get("MarketType") == "spot"
    }
    assert spot == {"gpu_spot", "cpu_decode"}
    assert "InstanceMarketOptions" not in head["node_config"]
    assert all(one["min_workers"] == 0 for one in types.values())
    assert sum(one["max_workers"] for one in types.values()) <= config["max_workers"]
    assert config["provider"]["cache_stopped_nodes"] is False


def test_the_image_has_the_ray_that_the_package_is_pinned_to(config, job):
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    dockerfile = (ROOT / "workflows/kuberay/Dockerfile").read_text()
    assert f":{pinned}-py311" in config["docker"]["image"]
    assert f"FROM {config['docker']['image']}\n" in dockerfile
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == pinned
    extras = re.search(r"constraints.txt '(\S+)'", config["setup_commands"][-1])[1]
    assert f"'{extras}'" in dockerfile
    known = (ROOT / "pyproject.toml").read_text()
    assert all(f"\n{extra} = [" in known for extra in extras.strip(".[]").split(","))


def test_nodes_have_all_that_the_package_is_of(config):
    """Else a node cannot unpickle what `train` or `evaluate` sends there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    find = project["tool"]["setuptools"]["packages"]["find"]
    packages = {name.removesuffix("*") for name in find["include"]}
    files = {"pyproject.toml", "constraints.txt", "README.md", "LICENSE"}
    assert config["file_mounts"] == {f"/home/ray/egoscaler/{one}": one for one in packages | files}
    dockerfile = (ROOT / "workflows/kuberay/Dockerfile").read_text()
    copied = re.findall(r"^COPY --chown=ray (.+) \S+$", dockerfile, re.MULTILINE)
    assert {name for line in copied for name in line.split()} == packages | files


def test_nodes_render_and_talk_as_evaluation_wants_it(config, job):
    """The libraries that `make install` asks for, and Ray's limit that `evaluate` sets here."""
    libraries = re.search(r"^EGL := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    dockerfile = (ROOT / "workflows/kuberay/Dockerfile").read_text()
    assert all(
        f" {libraries}\n" in f"{text}\n" for text in (dockerfile, config["setup_commands"][0])
    )
    name = "RAY_max_direct_call_object_size"
    assert f"--env={name}={evaluation.DIRECT_CALL_BYTES}" in config["docker"]["run_options"]
    nodes = job["spec"]["rayClusterSpec"]
    for group in [nodes["headGroupSpec"], *nodes["workerGroupSpecs"]]:
        (container,) = group["template"]["spec"]["containers"]
        assert {"name": name, "value": str(evaluation.DIRECT_CALL_BYTES)} in container["env"]


def test_nobodys_own_paths(config):
    text = (ROOT / "cluster.yaml").read_text() + (
        ROOT / "workflows/kuberay/rayjob.yaml"
    ).read_text()
    assert not re.search(r"/(Users|work|root)\b|/home/(?!ray/)|\.pem|AKIA", text)
    assert all(not Path(local).is_absolute() for local in config["file_mounts"].values())


def test_commands_are_shell(config):
    parts = [value for name, value in config.items() if name.endswith("_commands")]
    for command in (command for commands in parts for command in commands):
        subprocess.run(["bash", "-n", "-c", command], check=True)


def _launched(config: dict, asked: dict[str, float], failed: str = "") -> list[str]:
    """The node types that Ray's scheduler starts for one such request on an empty cluster."""
    from ray.autoscaler._private.util import prepare_config
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.utils import ResourceRequestUtil
    from ray.core.generated.autoscaler_pb2 import ResourceRequestByCount

    wanted = AutoscalingConfig(prepare_config(config), skip_content_hash=True)
    demand = ResourceRequestByCount(request=ResourceRequestUtil.make(asked), count=1)
    request = SchedulingRequest(
        node_type_configs=wanted.get_node_type_configs(),
        max_num_nodes=wanted.get_max_num_nodes(),
        resource_requests=[demand],
        recoverable_resource_availabilities={failed: 0.0} if failed else {},
        disable_launch_config_check=True,
    )
    reply = ResourceDemandScheduler(event_logger=None).schedule(request)
    assert not reply.infeasible_resource_requests, asked
    return [launch.instance_type for launch in reply.to_launch for _ in range(launch.count)]


@pytest.mark.parametrize(
    ("asked", "failed", "expected"),
    [
        ({}, "", "cpu_decode"),
        ({"cpus_per_worker": 8}, "", "cpu_decode"),
        ({"solves_per_worker": 0.125}, "", "cpu_decode"),
        ({"gpus_per_worker": 0.5, "solves_per_worker": 7}, "", "gpu_spot"),
        ({"gpus_per_worker": 1, "cpus_per_worker": 2, "solves_per_worker": 14}, "", "gpu_spot"),
        ({"gpus_per_worker": 0.5, "solves_per_worker": 7}, "gpu_spot", "gpu_ondemand"),
    ],
)
def test_the_actors_of_extract_start_the_right_pool(config, asked, failed, expected):
    flags = ExtractConfig(**asked)
    actor = {"CPU": cluster.cpus(flags), "GPU": flags.gpus_per_worker}
    need = {name: amount for name, amount in actor.items() if amount}
    launched = [name for name in _launched(config, need, failed) if name != "head"]
    assert launched == [expected]


@pytest.mark.parametrize("solves", [0.125, 0.5, 1, 2, 7])
@pytest.mark.parametrize("own", [0.25, 0.5, 1, 2, 3.5])
def test_actors_leave_room_for_solves_on_a_node_of_any_size(own, solves):
    """Else a cluster that lost nodes waits for ever: see `cluster.cpus`."""
    asked = cluster.cpus(ExtractConfig(cpus_per_worker=own, solves_per_worker=solves))
    for cpus in range(1, 193):
        actors = int(cpus / asked)
        needed = max(1, actors) if solves >= 1 else 1
        assert cpus - actors * asked >= needed * cluster.SOLVE_CPUS - 1e-9


def test_rayjob_continues_and_goes_away(job):
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    assert spec["backoffLimit"] >= 10
    assert spec["shutdownAfterJobFinishes"] is True
    nodes = spec["rayClusterSpec"]
    assert nodes["enableInTreeAutoscaling"] is True
    assert nodes["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    names = [group["groupName"] for group in nodes["workerGroupSpecs"]]
    assert names == ["cpu", "gpu"]
    for group in nodes["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert {"key": "spot", "operator": "Exists", "effect": "NoSchedule"} in group["template"][
            "spec"
        ]["tolerations"]
    for group in [nodes["headGroupSpec"], *nodes["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert "@sha256:" in container["image"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_rayjob_has_only_fields_of_the_crd(job):
    """By hand from KubeRay's rayjob_types.go and raycluster_types.go."""
    spec = job["spec"]["rayClusterSpec"]
    assert set(job["spec"]) <= _RAYJOB
    assert set(job["spec"]["submitterConfig"]) <= {"backoffLimit"}
    assert set(spec) <= {
        *("rayVersion", "enableInTreeAutoscaling", "autoscalerOptions"),
        *("headGroupSpec", "workerGroupSpecs"),
    }
    assert set(spec["autoscalerOptions"]) <= {"upscalingMode", "idleTimeoutSeconds"}
    assert spec["autoscalerOptions"]["upscalingMode"] in ("Default", "Conservative")
    assert set(spec["headGroupSpec"]) == {"rayStartParams", "template"}
    worker = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
    for group in spec["workerGroupSpecs"]:
        assert set(group) == worker


_RAYJOB = {
    *("entrypoint", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished"),
    *("submissionMode", "submitterConfig", "rayClusterSpec", "runtimeEnvYAML"),
}


def test_rayjob_runs_a_command_that_we_have(job, monkeypatch):
    command, *arguments = shlex.split(job["spec"]["entrypoint"])
    assert command == "egoscaler"
    seen = []
    monkeypatch.setitem(cli.JOBS, ExtractConfig, ("extract", seen.append))
    assert cli.main(arguments) == 0
    (config,) = seen
    workers = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    cpus = max(
        int(g["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"]) for g in workers
    )
    assert 1 <= config.cpus_per_worker <= cpus
    room = sum(
        g["maxReplicas"] * int(g["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
        for g in workers
    )
    assert config.workers * cluster.cpus(config) <= room


def test_a_submitted_job_ships_the_code_only(tmp_path):
    """The file that Ray itself makes of the working directory."""
    from ray._private.runtime_env import packaging

    tree = tmp_path / "checkout"
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    for name in [*tracked, ".rayignore", "cluster.yaml"]:
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((ROOT / name).read_bytes())
    ballast = [
        *(".venv/lib/big.py", ".git/objects/pack.py", "demo/video.mp4", "shards/run.json"),
        *("manifest/manifest.json", "data/clip.mp4", "shared/data/real.vrs", "notes.csv"),
        *("ego_ops/__pycache__/clip.cpython-311.pyc", ".env", "secret.pem"),
    ]
    for name in ballast:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(b"x" * 100_000)
    (tree / "my_pipeline.py").write_text("class Mine: ...\n")

    package = tmp_path / "package.zip"
    logging.getLogger(packaging.__name__).setLevel(logging.ERROR)
    packaging.create_package(str(tree), package, include_gitignore=True, excludes=[])
    names = set(zipfile.ZipFile(package).namelist())
    assert not names & set(ballast)
    assert {"my_pipeline.py", "workflows/cli.py", "ego_ops/report/template.html"} <= names
    code = {name for name in tracked if name.startswith(("ego_ops/", "workflows/"))}
    assert {name for name in code if (ROOT / name).is_file()} <= names
    assert {name.split("/")[0] for name in names} <= {
        *("ego_ops", "workflows", "training", "sim_eval", "robot", "my_pipeline.py"),
    }
    assert package.stat().st_size < 10_000_000, "code alone, uncompressed, is 2 MB"


def test_commands_of_the_page_are_ours(monkeypatch):
    page = (ROOT / "workflows/running-at-scale.md").read_text()
    blocks = page.split("```")[1::2]
    text = "\n".join(blocks).replace("\\\n", " ")
    commands = re.findall(r"egoscaler (extract|status) ([^#\n]*)", text)
    assert {name for name, _ in commands} == {"extract", "status"}
    seen: list = []
    for kind, (name, _) in list(cli.JOBS.items()):
        monkeypatch.setitem(cli.JOBS, kind, (name, seen.append))
    for name, arguments in commands:
        assert cli.main([name, *shlex.split(arguments)]) == 0
    assert [one.workers for one in seen if isinstance(one, ExtractConfig)] == [280]
    for flag in set(re.findall(r"`(--[a-z-]+)", page)):
        known = {f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(ExtractConfig)}
        assert flag in known | {"--failures"}, flag
