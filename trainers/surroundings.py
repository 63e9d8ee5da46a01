"""What a run runs on: versions, the checkout of the code, what a launcher says.

Never a whole environment: it may hold secrets.
"""

import importlib.metadata
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

import msgspec

STATUS_LINES = 200

PACKAGES = (
    "evidence-lake",
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "tokenizers",
    "safetensors",
    "numpy",
    "pyarrow",
    "msgspec",
    "deltalake",
    "duckdb",
)
# What launchers say by the environment. Nothing else of it is ever written down.
LAUNCH = (
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "GROUP_WORLD_SIZE",
    "TORCHELASTIC_RESTART_COUNT",
    "TORCHELASTIC_MAX_RESTARTS",
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "CUDA_LAUNCH_BLOCKING",
    "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_TF32_OVERRIDE",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "NCCL_ALGO",
    "NCCL_PROTO",
    "NCCL_P2P_DISABLE",
    "NCCL_IB_DISABLE",
    "ACCELERATE_MIXED_PRECISION",
    "ACCELERATE_DYNAMO_BACKEND",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
    "ACCELERATE_USE_FSDP",
    "ACCELERATE_USE_DEEPSPEED",
    "FSDP_VERSION",
    "FSDP_SHARDING_STRATEGY",
    "FSDP_RESHARD_AFTER_FORWARD",
    "FSDP_AUTO_WRAP_POLICY",
    "FSDP_TRANSFORMER_CLS_TO_WRAP",
    "FSDP_OFFLOAD_PARAMS",
    "FSDP_STATE_DICT_TYPE",
    "FSDP_ACTIVATION_CHECKPOINTING",
    "FSDP_CPU_RAM_EFFICIENT_LOADING",
    "PYTHONHASHSEED",
    "HF_HUB_OFFLINE",
    "TOKENIZERS_PARALLELISM",
)


class Code(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The checkout that the code ran from. `status` is what git says is changed in it, at most so many lines."""

    commit: str
    branch: str
    dirty: bool
    status: tuple[str, ...]


def versions(names: Iterable[str] = PACKAGES) -> dict[str, str]:
    """The versions of those of these packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def launch() -> dict[str, str]:
    """What a launcher has said by the environment."""
    return {name: os.environ[name] for name in LAUNCH if name in os.environ}


def code_of(folder: Path | None = None) -> Code | None:
    """The git checkout that a folder is the top of, by default that of this code; None if it is the top of none."""
    folder = (folder or Path(__file__).parents[1]).resolve()
    top = _git(folder, "rev-parse", "--show-toplevel")
    # An installed package may lie within somebody's checkout, whose commit says nothing about it.
    if top is None or Path(top[0]).resolve() != folder:
        return None
    commit, branch = _git(folder, "rev-parse", "HEAD"), _git(folder, "rev-parse", "--abbrev-ref", "HEAD")
    status = _git(folder, "status", "--porcelain")
    if commit is None or branch is None or status is None:
        return None
    return Code(commit=commit[0], branch=branch[0], dirty=bool(status), status=tuple(status[:STATUS_LINES]))


def _git(folder: Path, *arguments: str) -> list[str] | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.splitlines()
