"""What an s3:// address means, and what is said of how to reach a bucket: here, or by environment variables.

Not here: reaching it (`bucket`).
"""

import os
import re
from collections.abc import Mapping

from lake.errors import UsageError

# What may be said of a bucket, in the words of the environment variables that say it.
OPTIONS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ALLOW_HTTP",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
    "AWS_SKIP_SIGNATURE",
)
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")  # the first that is set counts, as in Amazon's own tools

_ADDRESS = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([A-Za-z0-9._/-]*))?")
_ENDPOINT = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?")
_SAME_AS = {"AWS_DEFAULT_REGION": "AWS_REGION", "AWS_ENDPOINT_URL_S3": "AWS_ENDPOINT_URL"}


def place_of(uri: str) -> tuple[str, str]:
    """The bucket and the prefix that an s3:// address names. Raises UsageError."""
    match = _ADDRESS.fullmatch(uri)
    parts = match[2].strip("/").split("/") if match and match[2] else []
    if match is None or any(part in {"", ".", ".."} for part in parts) or ".." in match[1]:
        raise UsageError(
            f"{uri!r} is no address of a bucket and a prefix",
            "write s3://BUCKET/PREFIX, with letters, digits, '.', '_', '-' and '/' only in the prefix",
        )
    return match[1], "/".join(parts)


def resolved(given: Mapping[str, str]) -> dict[str, str]:
    """All that is said of how to reach a bucket, here or in the environment. Raises UsageError."""
    said = {name: os.environ[name] for name in (*_SAME_AS, *OPTIONS) if os.environ.get(name)}
    # Of two names for one thing the later one counts: the region's own, not the default one.
    found = {_SAME_AS.get(name, name): value for name, value in said.items()}
    if first := next((said[name] for name in ENDPOINTS if name in said), None):
        found["AWS_ENDPOINT_URL"] = first
    for name, value in given.items():
        found[option_named(name)] = value
    for name, value in found.items():
        # The library underneath ends the program over a header that cannot be one.
        if not re.fullmatch(r"[!-~]+", value):
            raise UsageError(f"{name}: a value has printable ASCII characters only, and no space", "correct it")
    endpoint = found.get("AWS_ENDPOINT_URL")
    if endpoint is not None and not _ENDPOINT.fullmatch(endpoint):
        raise UsageError(
            f"AWS_ENDPOINT_URL={endpoint}: this is no http(s) address", "for example http://127.0.0.1:9000"
        )
    if endpoint is not None and endpoint.startswith("http://"):
        found.setdefault("AWS_ALLOW_HTTP", "true")
    # Said to whatever is not Amazon, which does not care; without one, both libraries would look for it on the network.
    found.setdefault("AWS_REGION", "us-east-1")
    return found


def option_named(name: str) -> str:
    """A storage option's own name, whatever its case. Raises UsageError."""
    known = _SAME_AS.get(name.upper(), name.upper())
    if known not in OPTIONS:
        raise UsageError(f"there is no storage option {name!r}", f"the options are {', '.join(OPTIONS)}")
    return known
