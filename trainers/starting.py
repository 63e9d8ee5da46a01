"""A run's file to begin with: every key there is, what it means, and a value to begin with.

It is made from the settings themselves, so it has no key that they lack and lacks none that they have.
"""

from collections.abc import Iterator
from typing import Any, get_args

import msgspec

from trainers.plan import Stage
from trainers.spec import PACKED, Lora, RunSpec, struct_in

_WIDTH = 44

# Where nothing but experience settles a value: what is usual for the method.
_RATES = {
    "pretrain": 3e-4,
    "sft": 2e-5,
    "lora": 2e-4,
    "dpo": 5e-7,
    "ipo": 5e-7,
    "kto": 1e-6,
    "reward": 1e-5,
    "grpo": 1e-6,
}
_STAGE = {
    "rows": "rows a step takes, all processes together",
    "length": "tokens of a row",
    "steps": "how many steps, instead of epochs",
    "epochs": "how often every example is taken",
}


def text(method: str) -> str:
    """The file of one of `spec.METHODS`, as TOML."""
    packed = method in PACKED
    given: dict[str, dict[str, Any]] = {
        "": {"method": method, "out": f"runs/{method}"},
        "data": {"snapshot": "NAME-OR-ID", **({} if packed else {"longest": 2048}), "overlong": "drop"},
        "model": {"path": "FOLDER-OR-NAME", "dtype": "bfloat16"},
        "stages": {"rows": 32, **({"length": 2048} if packed else {}), "epochs": 1},
        "optimizer": {"learning_rate": _RATES[method], "warmup_steps": 10, "parts": 8},
        "checkpoints": {"every": 100},
        "report": {"every": 10},
        "evaluation": {},
        "lora": {"r": 16} if method == "lora" else {},
        "preference": {
            "dpo": {"beta": 0.1},
            "ipo": {"beta": 0.1},
            "kto": {"beta": 0.1},
            "reward": {"center": 0.01},
        }.get(method, {}),
        "grpo": {"generations": 8} if method == "grpo" else {},
    }
    if method == "pretrain":
        del given["data"]["overlong"]
    lines = [f"# What `lake train {method}` reads. What begins with # may stay away: it says what holds then.", ""]
    sections: list[tuple[str, Any]] = []
    for field in msgspec.structs.fields(RunSpec):
        inner = struct_in(field.type)
        if inner is None:
            lines += _key(field, given[""])
        elif field.name not in {"preference", "grpo"} or given[field.name]:
            sections.append((field.name, inner))
    for name, inner in sections:
        # Adapters are for any method; without the table whole weights are trained.
        aside = "# " if inner is Lora and method != "lora" else ""
        lines += ["", f"{aside}[[{name}]]" if inner is Stage else f"{aside}[{name}]"]
        useless = "longest" if packed else "length"
        table = (line for line in _table(inner, given[name]) if not line.removeprefix("# ").startswith(useless))
        lines += [aside + line if aside and not line.startswith("#") else line for line in table]
        for field in msgspec.structs.fields(inner):
            if (deeper := struct_in(field.type)) is not None:
                lines += ["", f"[{name}.{field.name}]", *_table(deeper, {})]
    return "\n".join(lines) + "\n"


def _table(kind: Any, given: dict[str, Any]) -> Iterator[str]:
    for field in msgspec.structs.fields(kind):
        if struct_in(field.type) is None:
            yield from _key(field, given)


def _key(field: msgspec.structs.FieldInfo, given: dict[str, Any]) -> Iterator[str]:
    said = _said(field) or _STAGE.get(field.name, "")
    known = given.get(field.name, field.default)
    written = f"{field.name} = {_toml(known)}"
    if field.name not in given:
        written = f"# {written}"
    yield f"{written:{_WIDTH}}# {said}" if said else written


def _said(field: msgspec.structs.FieldInfo) -> str:
    meta = [one for one in get_args(field.type)[1:] if isinstance(one, msgspec.Meta)]
    return next((one.description for one in meta if one.description), "")


def _toml(value: Any) -> str:
    if value is None or value is msgspec.NODEFAULT:
        return "…"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else f"{value}"
