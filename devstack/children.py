"""The table of children: what each is started with, and where it answers."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from devstack.install import TIKTOKEN_DIR
from devstack.ports import LOOPBACK
from devstack.processes import Command
from devstack.secrets_file import Secrets
from devstack.supabase_lite import front_door_command
from devstack.supervisor import Service

CODE = Path(__file__).resolve().parents[1]
NAMES = frozenset({"postgres", "front_door", "functions", "realtime", "inference"})
# What a Python child may know of the user's environment besides what it is given.
ORDINARY = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES",
    "HF_HOME", "HF_HUB_OFFLINE", "HF_TOKEN", "SSL_CERT_FILE",
)  # fmt: skip


@dataclass(frozen=True)
class Surroundings:
    """What all children have in common. `project` holds supabase/."""

    project: Path
    data_dir: Path
    secrets: Secrets
    ports: dict[str, int]
    database_url: SecretStr

    def url(self, name: str) -> str:
        return f"http://{LOOPBACK}:{self.ports[name]}"


def front_door(here: Surroundings, listen_fd: int) -> Service:
    command = front_door_command(
        project=here.project,
        data_dir=here.data_dir,
        database_url=here.database_url,
        secrets=here.secrets,
        listen_fd=listen_fd,
        functions_port=here.ports["functions"],
        realtime_port=here.ports["realtime"],
    )
    return Service(command, f"{here.url('front_door')}/health")


def functions(here: Surroundings) -> Service:
    """Knows the user's whole environment: keys of language models are set there."""
    secrets = here.secrets
    env = {
        **os.environ,
        "SUPABASE_URL": here.url("front_door"),
        "SUPABASE_PUBLISHABLE_KEY": secrets.publishable_key,
        "SUPABASE_SECRET_KEY": secrets.secret_key.get_secret_value(),
        "SUPABASE_JWT_SECRET": secrets.jwt_secret.get_secret_value(),
        "API_KEY_ENCRYPTION_SECRET": secrets.api_key_encryption_secret.get_secret_value(),
        "FINEFLOW_FUNCTION_SECRET": secrets.function_secret.get_secret_value(),
        "FINEFLOW_DATA_DIR": str(here.data_dir),
        "FINEFLOW_INFERENCE_URL": here.url("inference"),
        "FINEFLOW_INFERENCE_TOKEN": secrets.inference_token.get_secret_value(),
        "TIKTOKEN_CACHE_DIR": str(TIKTOKEN_DIR),
    }
    arguments = (
        "uvicorn", "functions.entry:app", "--host", LOOPBACK, "--port", str(here.ports["functions"]),
        "--no-access-log", "--timeout-graceful-shutdown", "3",
    )  # fmt: skip
    command = _python("functions", arguments, env, here)
    return Service(command, f"{here.url('functions')}/functions/v1/health")


def realtime(here: Surroundings) -> Service:
    env = {
        **_ordinary(),
        "FINEFLOW_DATABASE_URL": here.database_url.get_secret_value(),
        "SUPABASE_JWT_SECRET": here.secrets.jwt_secret.get_secret_value(),
        "SUPABASE_PUBLISHABLE_KEY": here.secrets.publishable_key,
        "SUPABASE_SECRET_KEY": here.secrets.secret_key.get_secret_value(),
    }
    arguments = ("devstack.realtime.server", "--port", str(here.ports["realtime"]))
    return Service(_python("realtime", arguments, env, here), f"{here.url('realtime')}/health")


def inference(here: Surroundings) -> Service:
    """Not waited for: it imports torch, and nobody asks it before a model is trained."""
    env = {
        **_ordinary(),
        "FINEFLOW_INFERENCE_TOKEN": here.secrets.inference_token.get_secret_value(),
        "FINEFLOW_DATA_DIR": str(here.data_dir),
    }
    arguments = ("modal_app.serve", "--port", str(here.ports["inference"]))
    command = _python("inference", arguments, env, here)
    return Service(command, f"{here.url('inference')}/health", is_awaited=False)


def _python(name: str, arguments: tuple[str, ...], env: dict[str, str], here: Surroundings) -> Command:
    return Command(
        name=name,
        argv=(sys.executable, "-m", *arguments),
        cwd=CODE,
        env={**env, "PYTHONUNBUFFERED": "1"},
        log=here.data_dir / "logs" / f"{name}.log",
    )


def _ordinary() -> dict[str, str]:
    return {name: os.environ[name] for name in ORDINARY if name in os.environ}
