"""Conversations in the Harmony response format (https://github.com/openai/harmony, docs/format.md), there and back.

`chats` reads messages of OpenAI's shape, `render` writes them as Harmony, `parse` reads Harmony and says what is wrong
with it, `tokens` has the special tokens with their ids, `definitions` how functions are defined.

Not here: which conversations are exported, and the encoding of ordinary text, which a tokenizer does.
"""

from exporters.harmony.chats import Call, Chat, Tool, Turn, Unrenderable, read_chat
from exporters.harmony.parse import Message, NotHarmony, Parsed, parse, parse_segments, problems
from exporters.harmony.render import System, completion, render, segments
from exporters.harmony.tokens import SPECIAL, Segment, encode, from_ids, split, text_of

__all__ = [
    "SPECIAL",
    "Call",
    "Chat",
    "Message",
    "NotHarmony",
    "Parsed",
    "Segment",
    "System",
    "Tool",
    "Turn",
    "Unrenderable",
    "completion",
    "encode",
    "from_ids",
    "parse",
    "parse_segments",
    "problems",
    "read_chat",
    "render",
    "segments",
    "split",
    "text_of",
]
