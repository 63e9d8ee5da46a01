"""A conversation with a tool, and conversations as Harmony."""

from exporters.harmony import (
    read_chat,
    render,
)

SYSTEM = """<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.
Knowledge cutoff: 2024-06
Current date: 2025-06-28

Reasoning: high

# Valid channels: analysis, commentary, final. Channel must be included for every message."""
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Gets the weather.",
        "parameters": {
            "type": "object",
            "properties": {
                "location": {"type": "string", "description": "The city and state"},
                "format": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
            },
            "required": ["location"],
        },
    },
}
ASKED = {"role": "user", "content": "How warm is it in SF?"}
CALLING = {
    "role": "assistant",
    "content": None,
    "thinking": "Need get_weather.",
    "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"location":"SF"}'}}
    ],
}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": '{"temperature": 20}'}
ANSWER = {"role": "assistant", "thinking": "20 it is.", "content": "20 degrees."}
CALL_TEXT = (
    "<|start|>assistant<|channel|>analysis<|message|>Need get_weather.<|end|>"
    "<|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"
    '{"location":"SF"}<|call|>'
    '<|start|>functions.get_weather to=assistant<|channel|>commentary<|message|>{"temperature": 20}<|end|>'
)


def text(*messages, tools=None, mode="training", system=None):
    return render(read_chat(messages, tools), mode, system)


def user(content):
    return {"role": "user", "content": content}


def said(content, thinking=""):
    return {"role": "assistant", "content": content, "thinking": thinking}
