"""What each container holds: every package at a version that was tested or locked together, and no secret.

The trainer's image installs this project's own requirements by its own constraints. Unsloth, Axolotl and vLLM
cannot live with those (each pins other versions of transformers or trl), so each has a lock of its own in
`locks/`. Every build imports what it has installed: a broken image stops `modal deploy`, not a job.
"""

from __future__ import annotations

from pathlib import Path

import modal

ROOT = Path(__file__).resolve().parents[1]
LOCKS = Path(__file__).with_name("locks")
PYTHON = "3.11"  # what the constraints and the locks were resolved for
# Has llama.cpp in its source archive: the converter as a script, the quantizer as a library.
LLAMA_CPP = "llama-cpp-python==0.3.36"
LLAMA_CPP_DIRECTORY = "/llama.cpp"

RUNS_DIRECTORY, BASES_DIRECTORY = "/fineflow", "/bases"  # where the volumes are mounted
_ENVIRONMENT = {
    "FINEFLOW_DATA_DIR": RUNS_DIRECTORY,
    "HF_HOME": BASES_DIRECTORY,
    # Nobody is told what is trained here: the Hub, Axolotl and others, vLLM.
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
_CONSTRAINTS = "/constraints.txt"


def _project(*extras: str) -> modal.Image:
    """This project's requirements, with these extras, at the versions of constraints.txt."""
    return (
        modal.Image.debian_slim(python_version=PYTHON)
        .add_local_file(ROOT / "constraints.txt", _CONSTRAINTS, copy=True)
        .pip_install_from_pyproject(
            str(ROOT / "pyproject.toml"), list(extras), extra_options=f"--constraint {_CONSTRAINTS}"
        )
    )


def _locked(name: str) -> modal.Image:
    image = modal.Image.debian_slim(python_version=PYTHON)
    return image.pip_install_from_requirements(str(LOCKS / f"{name}.txt"))


def _ready(image: modal.Image, *modules: str, gpu: str | None = None, **environment: str) -> modal.Image:
    """The image with our code, once its libraries were imported; gpu: what one of them wants to see then."""
    return (
        image.run_commands(f'python -c "import {", ".join(modules)}"', gpu=gpu)
        .env(_ENVIRONMENT | environment)
        .add_local_python_source("modal_app", "shared", ignore=[])  # with the files beside the code
    )


_TRAINER = _project("train")
LIBRARIES = ("torch", "transformers", "trl", "peft", "datasets", "bitsandbytes", "sentence_transformers")

TRL = _ready(_TRAINER, *LIBRARIES)
UNSLOTH = _ready(_locked("unsloth"), "unsloth", "trl", "structlog", gpu="T4")
AXOLOTL = _ready(_locked("axolotl"), "axolotl.train", "structlog")
EXPORT = _ready(
    _TRAINER.apt_install("cmake").run_commands(
        f"pip download --no-deps --no-binary :all: --dest /tmp {LLAMA_CPP}",
        f"mkdir {LLAMA_CPP_DIRECTORY} && tar -xzf /tmp/llama_cpp_python-*.tar.gz -C {LLAMA_CPP_DIRECTORY}"
        " --strip-components 3 --wildcards '*/vendor/llama.cpp'",
        f"pip install --constraint {_CONSTRAINTS} {LLAMA_CPP}",
    ),
    "transformers",
    "llama_cpp",
    FINEFLOW_LLAMA_CPP=LLAMA_CPP_DIRECTORY,
)
# vLLM reads what lies in the volumes and asks nobody: its container has no network.
SERVE = _ready(_locked("vllm"), "vllm", "structlog", HF_HUB_OFFLINE="1")
GATE = _ready(_project(), "starlette", "structlog")
