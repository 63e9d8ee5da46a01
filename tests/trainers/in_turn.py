"""`python -m tests.trainers.in_turn RUN.toml ...`: what `python -m trainers` does, for one file after the other.

Processes that train together take seconds to begin; here they begin once.
"""

import gc
import sys

from trainers.__main__ import main

for settings in sys.argv[1:]:
    gc.freeze()  # a run that ends looks through all that was imported, otherwise
    sys.argv = ["trainers", settings]
    if code := main():
        sys.exit(code)
