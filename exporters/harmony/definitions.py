"""Definitions of functions as Harmony has them: a namespace of TypeScript-like types, made of JSON schemas.

After docs/format.md of https://github.com/openai/harmony. Where that says nothing: `anyOf` is a union, any enumeration
is one of its values, what has no type is `any`, and each line of a description is a comment of its own, so that no text
can end the comment it is in.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from exporters.harmony.chats import Tool

HEADING = "# Tools\n\n## functions\n\nnamespace functions {\n\n"
END = "} // namespace functions"

_STEP = "    "
_PLAIN = {"string": "string", "number": "number", "integer": "number", "boolean": "boolean", "null": "null"}


def section(tools: Iterable[Tool]) -> str:
    """The section of a developer message that defines these functions."""
    return HEADING + "".join(f"{_defined(tool)}\n\n" for tool in tools) + END


def _defined(tool: Tool) -> str:
    lines = [*_comments(tool.description)] if tool.description else []
    schema = tool.parameters or {}
    argument = f"_: {_described(schema)}{_object(schema, '')}" if schema.get("properties") else ""
    return "\n".join([*lines, f"type {tool.name} = ({argument}) => any;"])


def _described(schema: Mapping[str, Any]) -> str:
    text = schema.get("description")
    return "".join(f"{line}\n" for line in _comments(text)) if isinstance(text, str) and text else ""


def _comments(text: str, indent: str = "") -> Iterator[str]:
    for line in text.splitlines():
        yield f"{indent}// {line}".rstrip() if not line else f"{indent}// {line}"


def _object(schema: Mapping[str, Any], indent: str) -> str:
    properties = schema.get("properties")
    required = schema.get("required")
    named = required if isinstance(required, list) else []
    lines = ["{"]
    if isinstance(properties, Mapping):
        for name, value in properties.items():
            told = value if isinstance(value, Mapping) else {}
            lines += _property(f"{name}{'' if name in named else '?'}", told, indent)
    return "\n".join([*lines, f"{indent}}}"])


def _property(name: str, schema: Mapping[str, Any], indent: str) -> Iterator[str]:
    title, description, examples = schema.get("title"), schema.get("description"), schema.get("examples")
    if isinstance(title, str) and title:
        yield from _comments(title, indent)
        yield f"{indent}//"
    if isinstance(description, str) and description:
        yield from _comments(description, indent)
    if isinstance(examples, list) and examples:
        yield f"{indent}// Examples:"
        yield from (f"{indent}// - {_json(example)}" for example in examples)
    variants = schema.get("oneOf")
    if isinstance(variants, list) and variants:
        yield from _variants(name, schema, variants, indent)
    else:
        yield f"{indent}{name}: {_type(schema, indent + _STEP)},{_default(schema)}"


def _variants(name: str, schema: Mapping[str, Any], variants: Sequence[Any], indent: str) -> Iterator[str]:
    """A property that is one of several: a line for each."""
    if "default" in schema:
        yield f"{indent}{_default(schema).strip()}"
    yield f"{indent}{name}:"
    for variant in variants:
        told = variant if isinstance(variant, Mapping) else {}
        description = told.get("description")
        notes = [" ".join(description.split())] if isinstance(description, str) and description.strip() else []
        notes += [_default(told).strip(" /")] if "default" in told else []
        yield f"{indent} | {_type(told, indent + _STEP)}" + (f" // {' '.join(notes)}" if notes else "")
    yield f"{indent},"


def _default(schema: Mapping[str, Any]) -> str:
    if "default" not in schema:
        return ""
    value = schema["default"]
    # A value of an enumeration is written without its quotes, as the format's own examples have it.
    bare = isinstance(value, str) and schema.get("enum") and "\n" not in value
    return f" // default: {value if bare else _json(value)}"


def _type(schema: Mapping[str, Any], indent: str) -> str:
    kind = _kind(schema, indent)
    if schema.get("nullable") is True and "null" not in kind.split(" | "):
        return f"{kind} | null"
    return kind


def _kind(schema: Mapping[str, Any], indent: str) -> str:
    for key in ("oneOf", "anyOf"):
        if isinstance(schema.get(key), list) and schema[key]:
            return " | ".join(_type(each if isinstance(each, Mapping) else {}, indent) for each in schema[key])
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return " | ".join(map(_json, schema["enum"]))
    kind = schema.get("type")
    if isinstance(kind, list):
        return " | ".join(_kind({**schema, "type": each}, indent) for each in kind) or "any"
    if kind == "object":
        return _object(schema, indent)
    if kind == "array":
        items = schema.get("items")
        inner = _type(items, indent) if isinstance(items, Mapping) else ""
        if not inner:
            return "Array<any>"
        return f"({inner})[]" if " | " in inner and not inner.startswith("{") else f"{inner}[]"
    return _PLAIN.get(kind, "any") if isinstance(kind, str) else "any"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
