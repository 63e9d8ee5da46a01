"""The sample data of `lake demo`: small programming tasks, attempts at them, and what was thought of these.

`problems/` is the material, one task a file; `make_sample` makes the `.jsonl` files beside it out of that. All of it
was written for this project and may be used as the project may.
"""

__all__: list[str] = []
