"""Serve a policy to robots: openpi's websocket protocol, from a Ray actor that owns the model.

    robots ── websocket ──> Server (robot.server) in a Ray actor ── batches ──> policy

There is no proxy between: the actor itself listens. If its process dies Ray starts another, which
loads the policy and listens on the same port. This command watches over it: what it prints comes
from the actor, and when it ends, the actor does.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ego_ops.errors import UserError
from workflows import cluster, flags, served
from workflows.serve_signals import Asked, signals
from workflows.served import Observation, Served

if TYPE_CHECKING:
    from robot.server import ServerConfig
    from workflows.serve_replicas import Replicas

_LOOK_S, _SAY_S = 0.5, 60.0


@dataclass(frozen=True)
class ServeConfig:
    """Serve a policy to robots, by openpi's websocket protocol."""

    policy: str
    """A run of `train` or its policy folder, `expert` (the tabletop's script), or module:Class of
    one of your own."""
    port: int = 8000
    """0 for any that is free."""
    host: str = "127.0.0.1"
    """Address to listen on. Others than this machine's own (127.0.0.1) need --token-file."""
    observation: Observation = "tabletop"
    """Whose messages a checkpoint is sent; `ours` has pictures by π0's names of cameras."""
    source: str | None = None
    """Whose states and actions a checkpoint takes and gives; needed where it was trained on
    several sources."""
    batch: int = 8
    """Most requests that a checkpoint answers in one call."""
    budget_ms: float = 5.0
    """Milliseconds that a request waits at most for others to be answered with it."""
    call_timeout: float = 60.0
    """Seconds after which a call of the policy hangs: who waits is told so, and the policy's
    process is started anew."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where a checkpoint computes."""
    half: bool | None = None
    """Whether a checkpoint computes in bf16; by default on a GPU only."""
    flow_steps: int = 10
    """Steps of the integration from noise to actions."""
    replicas: int = 1
    """Copies of the policy, each in a process of its own (with --device cuda: with its own GPU), on
    one machine and one port: the kernel gives each connection to one of them."""
    cpus: int | None = None
    """CPUs of each; by default its share of this machine's, and 1 with --device cuda."""
    watch: bool = False
    """Serve what `train` writes in place of the policy, once it is loaded; connections stay. SIGHUP
    does it once."""
    token_file: str | None = None
    """File with the token that clients have to send: `Authorization: Api-Key TOKEN`."""
    without_token: bool = False
    """Let anyone connect who can reach --host."""
    tls_cert: str | None = None
    """Certificate chain (PEM), on the machine that serves: clients then connect to wss://."""
    tls_key: str | None = None
    """Its key (PEM)."""
    address: str | None = None
    """Ray cluster to join: "auto" on a machine of it, or host:port. By default that of
    RAY_ADDRESS, which a submitted job has; without it, Ray is started on this machine."""
    quiet: bool = False
    """Print only that it is ready, and what goes wrong."""


def run(config: ServeConfig) -> None:
    """Serve until Ctrl-C or SIGTERM, then answer what is under way.

    Raises:
        UserError: the flags do not fit, the policy cannot be loaded, the port is taken, Ray broke.
    """
    flags.at_least(config, {"batch": 1, "flow_steps": 1, "replicas": 1, "cpus": 1, "port": 0})
    policy, server = _policy(config), _server(config)
    cpus = config.cpus or (
        1 if config.device == "cuda" else max(1, cluster.cores() // config.replicas)
    )
    resources = {"num_cpus": cpus, "num_gpus": int(config.device == "cuda")}
    stays = "clients reconnect once it serves again"
    with cluster.session(config.address, cpus * config.replicas, stays) as nodes:
        gpus = int(sum(node.get("GPU", 0.0) for node in nodes))
        if (
            config.device == "cuda"
            and gpus < config.replicas
            and not cluster.joined(config.address)
        ):
            raise UserError(
                f"--device cuda: this machine has {gpus} GPUs for {config.replicas} replicas"
            )
        _serve(config, policy, server, resources)


def _serve(
    config: ServeConfig, policy: Served, server: ServerConfig, resources: Mapping[str, float]
) -> None:
    import ray

    from workflows.serve_replicas import Replicas

    # Nobody else could reach an address of this machine's own.
    here = ray.get_runtime_context().get_node_id() if _is_own(config.host) else None
    with Replicas(policy, server, resources, here, config.watch) as replicas:
        replicas.start(config.replicas)
        with signals() as asked:
            _until_ended(replicas, asked, config)
    if not config.quiet:
        print("ended: all that was asked is answered", flush=True)


def _until_ended(replicas: Replicas, asked: Asked, config: ServeConfig) -> None:
    said, ready, draining = time.monotonic(), "", False
    while not replicas.ended:
        for text in replicas.look(_LOOK_S):
            print(text, flush=True)
        address = _address(config, replicas) if replicas.ready else ""
        if address and address != ready:
            ready = address
            print(_welcome(config, ready), flush=True)
        if asked.reload:
            asked.reload = False
            replicas.reload()
        if asked.end and not draining:
            draining = True
            replicas.drain()
        if time.monotonic() - said > _SAY_S and not config.quiet:
            said = time.monotonic()
            if line := replicas.tally():
                print(line, flush=True)


def _policy(config: ServeConfig) -> Served:
    how = Served(
        config.policy,
        "expert",
        observation=config.observation,
        source=config.source,
        batch=config.batch,
        device=config.device,
        half=config.half,
        flow_steps=config.flow_steps,
    )
    found = served.named(config.policy, how)
    if config.watch and found.kind != "checkpoint":
        raise UserError(f"--watch: {config.policy} is no checkpoint that could be written anew")
    return found


def _server(config: ServeConfig) -> ServerConfig:
    try:
        from robot.server import Limits, ServerConfig
    except ImportError as error:
        raise UserError(f"{error.name} is missing: pip install 'egoscaler-ray[robot]'") from error
    if config.port > 65535:
        raise UserError(f"--port {config.port}: ports go to 65535")
    if not 0 < config.call_timeout < math.inf:
        raise UserError(f"--call-timeout {config.call_timeout:g}: must be more than 0")
    token = flags.token(config.token_file)
    if not _is_own(config.host) and token is None and not config.without_token:
        raise UserError(
            f"--host {config.host}: others could reach it: give --token-file, or --without-token "
            "if all who can are to be served"
        )
    made = ServerConfig(
        host=config.host,
        port=config.port,
        token=token,
        tls_cert=_absolute(config.tls_cert),
        tls_key=_absolute(config.tls_key),
        budget_ms=config.budget_ms,
        reuse_port=config.replicas > 1,
        limits=Limits(infer_s=config.call_timeout),
    )
    if _is_own(config.host):
        made.tls()  # the files are on this machine: an error now, not from the actor
    return made


def _absolute(path: str | None) -> str | None:
    """The actor may have another working directory."""
    return None if path is None else str(Path(path).expanduser().absolute())


def _is_own(host: str) -> bool:
    """Whether an address is reached from its own machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _address(config: ServeConfig, replicas: Replicas) -> str:
    host = config.host
    if host in ("", "0.0.0.0", "::"):
        host = replicas.ip
    scheme = "wss" if config.tls_cert else "ws"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{replicas.place.port}"


def _welcome(config: ServeConfig, address: str) -> str:
    """One line: what is served, where, and how to connect."""
    many = f" by {config.replicas} replicas" if config.replicas > 1 else ""
    token = ", with the token," if config.token_file else ""
    return (
        f"serving {config.policy} at {address}{many}; connect{token} by openpi_client, or "
        f"egoscaler robot --server {address}"
    )
