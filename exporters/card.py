"""The card of an export: README.md, which people read and which tells `datasets.load_dataset` the columns' types.

The types are spelt out because a loader that guesses them from the first rows fails on a column that is null there and
is not later.
"""

from collections.abc import Iterator, Mapping

import pyarrow as pa

from exporters.dataset import Dataset
from exporters.decontamination import Standing
from exporters.decontamination import lines as decontaminated
from exporters.formats import data_files
from exporters.packed import NPY, Packing
from exporters.receipt import Counts

NAME = "README.md"

_SHOWN = 20


def render(
    *,
    dataset: Dataset,
    schema: pa.Schema,
    counts: Counts,
    policy: dict[str, object],
    snapshot: str,
    tables: dict[str, int],
    views: str,
    rebuild: str,
    form: str = "jsonl",
    packing: Packing | None = None,
    standing: Standing | None = None,
) -> str:
    """The card's text: a YAML head, and the export in plain words. `rebuild` is the command that makes it again."""
    vector = ", ".join(f"{kind} {tables[kind]}" for kind in sorted(tables))
    lines = [
        *_head(form, schema, counts),
        f"# {dataset.name}",
        "",
        dataset.one_row,
        "",
        f"{counts.considered} records were considered: {counts.exported} are here, {counts.quarantined} are not.",
        *_held_out(counts),
        *_replayed(counts),
        *_packed(packing, counts),
        *_reasons(counts),
        *decontaminated(standing),
        "",
        f"Snapshot `{snapshot}` ({vector}), views `{views[:12]}`, under the policy",
        "",
        *_policy(policy),
        "",
        "`receipt.json` lists every file with its sha256. To make the same bytes again, or to have them compared:",
        "",
        "```",
        rebuild,
        "lake export --verify FOLDER",
        "```",
        "",
    ]
    return "\n".join(lines)


def _head(form: str, schema: pa.Schema, counts: Counts) -> list[str]:
    """What tells a loader where the rows of each split are, and their types; it reads no arrays of NumPy's."""
    if form == NPY:
        return []
    return [
        "---",
        "configs:",
        "- config_name: default",
        "  data_files:",
        *(line for split in _with_rows(counts) for line in _split(form, split)),
        "dataset_info:",
        "  features:",
        *_features(schema, "  "),
        "---",
        "",
    ]


def _with_rows(counts: Counts) -> list[str]:
    """The splits to load: those that have rows, for `load_dataset` gives up on one that has none."""
    rows = {name: one.rows for name, one in (counts.packed or {}).items()} or counts.splits or {}
    return [name for name, number in rows.items() if number] or list(rows)[:1] or ["train"]


def _split(form: str, name: str) -> tuple[str, str]:
    return f"  - split: {name}", f"    path: {data_files(form, name)}"


def _held_out(counts: Counts) -> list[str]:
    if counts.splits is None or counts.packed is not None:
        return []
    return ["", " and ".join(f"{rows} rows are for {split}" for split, rows in counts.splits.items()) + "."]


def _replayed(counts: Counts) -> list[str]:
    said = counts.replay
    if said is None:
        return []
    short = f", {said.wanted - said.exported} fewer than asked for" if said.exported < said.wanted else ""
    passed = f"Passed over: {said.leaked} that say what a fresh row says, {said.repeated} that another section says."
    return ["", f"{said.exported} more rows are of {said.sections} sections of past training{short}. {passed}"]


def _packed(packing: Packing | None, counts: Counts) -> list[str]:
    if packing is None or counts.packed is None or counts.profile is None:
        return []
    used = packing.tokenizer
    opened = "" if used.specials.bos is None else f"begins with `{used.specials.bos}` and "
    named = ("documents", "tokens", "pieces", "cut", "rows", "padding", "fill")
    lines = [
        "",
        f"Tokenizer `{used.sha256[:12]}`, {used.vocabulary} ids. A document {opened}ends with `{used.specials.eos}`;",
    ]
    lines += [f"`{used.specials.pad}` fills rows up."]
    lines += ["", f"| packed | {' | '.join(named)} |", "|---|" + "---:|" * len(named)]
    lines += [
        f"| {name} | {' | '.join(str(getattr(one, what)) for what in named)} |" for name, one in counts.packed.items()
    ]
    said = counts.profile
    longest = ", ".join(f"{name} {length}" for name, length in said.percentiles.items())
    lines += ["", f"Documents are so many tokens long, the one at the end included: {longest}."]
    if said.recommended is not None:
        lines.append(f"A row of {said.recommended} holds 99 of 100 of them whole, or is as long as rows should be.")
    longer = ", ".join(f"{count} than {limit}" for limit, count in said.longer.items() if count)
    lines += [f"Longer are: {longer}."] * bool(longer)
    lines += [f"{said.unknown} tokens stand for what the vocabulary cannot say."] * bool(said.unknown)
    return lines


def _reasons(counts: Counts) -> list[str]:
    lines = ["", "| not here because | records |", "|---|---:|"] if counts.reasons else []
    lines += [f"| {reason} | {number} |" for reason, number in counts.reasons.items()]
    if counts.tasks_without_pair is not None:
        lines += ["", f"{counts.tasks_without_pair} tasks have no pair."]
    return lines


def _policy(policy: Mapping[str, object], within: str = "") -> Iterator[str]:
    """A line for each parameter; what is a part of another is named as it is asked for, `quality.min_words`."""
    for name, value in policy.items():
        if isinstance(value, dict):
            yield from _policy(value, f"{within}{name}.")
        else:
            yield f"- {within}{name}: {_said(value)}"


def _said(value: object) -> str:
    if isinstance(value, list) and len(value) > _SHOWN:
        return f"{len(value)} values, see receipt.json"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not given" if value is None else str(value)


def _features(schema: pa.Schema | pa.StructType, indent: str) -> list[str]:
    lines = []
    for field in schema:
        lines.append(f"{indent}- name: {field.name}")
        lines += _feature(field.type, f"{indent}  ")
    return lines


def _feature(kind: pa.DataType, indent: str) -> list[str]:
    if pa.types.is_struct(kind):
        return [f"{indent}struct:", *_features(kind, indent)]
    if pa.types.is_list(kind) and not pa.types.is_struct(kind.value_type):
        return [f"{indent}list: {kind.value_type}"]
    if pa.types.is_list(kind):
        return [f"{indent}list:", *_features(kind.value_type, indent)]
    return [f"{indent}dtype: {_DTYPES.get(kind, kind)}"]


_DTYPES = {pa.float64(): "float64", pa.json_(pa.string()): "json"}
