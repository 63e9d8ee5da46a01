"""A snapshot, or an export that names one, becomes a model.

This floor is where torch, transformers, TRL, PEFT and accelerate will be connected to snapshots: strict run
configurations, packed shards, batches that are a pure function of their place, and one file for each method. It is not
built yet. Importing it costs nothing and never imports torch, and nothing below it may import either.
"""

__all__: list[str] = []
