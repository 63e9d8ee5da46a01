"""Which kind of store an address means."""

from collections.abc import Mapping

from lake.bucket import Bucket
from lake.errors import UsageError
from lake.files import Folder, Store


def store_at(uri: str, options: Mapping[str, str] | None = None) -> Store:
    """The store at a URI. `options` say how to reach an object store. Raises UsageError."""
    if is_bucket(uri):
        return Bucket(uri, options)
    if options:
        raise UsageError(f"{uri}: a folder has no storage options: {', '.join(options)}", "leave them out")
    return Folder(uri)


def is_bucket(uri: str) -> bool:
    """Whether an address is that of an object store."""
    return uri.startswith("s3://")
