"""`python -m trainers RUN.toml`: a run on a machine that has no lake, or on several GPUs of it.

    torchrun --nproc-per-node 8 -m trainers RUN.toml
    accelerate launch --config_file fsdp.yaml -m trainers RUN.toml

Where there is a lake, `lake train` says the same in more words and writes the run down there.
"""

import argparse
import importlib
import sys
from pathlib import Path

from lake.errors import LakeError
from trainers import reading


def main() -> int:
    """Run what a file says, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m trainers", description="Train as a file of settings says.")
    parser.add_argument("settings", type=Path, metavar="RUN.toml")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    said = parser.parse_args()
    try:
        spec = reading.read(said.settings)
        # What needs torch takes seconds to load, and may be interrupted as the rest may.
        run = importlib.import_module("trainers.run")
        job = run.prepare(spec, resume=said.resume)
        done = run.train(job, resume=said.resume)
    except KeyboardInterrupt:
        print("error: interrupted", "hint: --resume goes on from the newest checkpoint", sep="\n", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except LakeError as error:
        print(f"error: {error.message}", *([f"hint: {error.hint}"] if error.hint else []), sep="\n", file=sys.stderr)
        return error.exit_code
    if job.rank == 0:
        print(f"{done.run}: {done.state} after {done.steps} of {done.plan.steps} steps", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
