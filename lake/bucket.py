"""A store that is a prefix of an S3 bucket, or of whatever speaks S3's protocol.

A put there is whole or nothing, and kept when it is acknowledged; `If-None-Match: *` makes it fail where there is an
object already. All that a lake promises about two writers rests on that header, and a store that ignores it destroys
commits without a word. So the first write of a process tries it, and refuses a store that does not keep to it.

An answer can be lost after the work was done. Each put therefore carries a mark of its own in the object's metadata:
when it is sent again and something is there, the mark says whether that is its own work.

Data files are read through a cache on this machine (`cache`). This is the only room that knows the obstore library.
"""

import contextlib
import hashlib
import io
import os
import random
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import IO, Any, TypeVar

import obstore
import pyarrow as pa
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from lake.cache import Cache, cache_folder, cache_limit
from lake.errors import Damaged, LakeError, UsageError
from lake.files import VERIFY, Content, Entry, Store, is_scratch
from lake.reach import place_of, resolved

CONNECT_SECONDS = 3
SILENCE_SECONDS = 20  # without a byte of the answer, before a request is given up and sent again
PATIENCE = 60.0  # seconds of passing faults before an operation fails
FIRST_PATIENCE = 8.0  # the same, while the store has not answered once: it is probably the wrong address
READERS = 8
PROBERS = 8

_MARK = "lake-attempt"
_SLOWEST_WAIT = 2.0
_TAIL_BYTES = 1 << 16  # a Parquet footer is read with the first request
_CHUNK_BYTES = 1 << 20
_FIRST_LOOK = 50  # objects
# How long a put of at most so many bytes may take, in seconds.
_PUT_SECONDS = ((8 << 20, 30), (128 << 20, 300), (5 << 30, 3600))

# Where a machine is asked for its role, when nothing else says who asks.
_ROLE = re.compile(r"//169\.254\.|/latest/(api/token|meta-data)")
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9]+)</Code>")
_SAYS = re.compile(r"<Message>([^<\n]{1,200})</Message>")

Answer = TypeVar("Answer")


class UnsafeStore(LakeError):
    """A store that lets two writers replace each other's files; nothing but a few test objects was written to it."""


class _Process:
    """What holds for a whole process: which buckets have been tried, and whether it is a fork of one that used any."""

    def __init__(self) -> None:
        self.proved: set[tuple[str, str]] = set()
        self.proving = threading.Lock()
        self.used = False
        self.forked = False

    def after_fork(self) -> None:
        self.proving = threading.Lock()
        self.forked = self.used


_process = _Process()
os.register_at_fork(after_in_child=_process.after_fork)


class Bucket(Store):
    """A store that is a prefix of an S3 bucket. `options` say how to reach it, by the names in `reach.OPTIONS`.

    What they do not say is taken from the environment variables of the same names. Raises UsageError.
    """

    seeks = True

    def __init__(self, uri: str, options: Mapping[str, str] | None = None) -> None:
        self._bucket, self._prefix = place_of(uri)
        self.uri = f"s3://{self._bucket}/{self._prefix}".rstrip("/")
        self.options = resolved(options or {})
        self._clients: dict[int, S3Store] = {}
        self._reached = False

    def __reduce__(self) -> tuple[type["Bucket"], tuple[str, Mapping[str, str]]]:
        return Bucket, (self.uri, self.options)

    def __repr__(self) -> str:
        return f"<Bucket {self.uri}>"

    def url(self, name: str) -> str:
        """The s3:// address."""
        return f"{self.uri}/{name}"

    def write_new(self, name: str, data: bytes | memoryview) -> bool:
        """As any store. Raises UnsafeStore before the first write of a process."""
        self._prove()
        return self._create(name, data)

    def replace(self, name: str, data: bytes) -> None:
        """As any store. Raises UnsafeStore before the first write of a process."""
        self._prove()
        key = self._key(name)
        self._ask(name, lambda client: obstore.put(client, key, data, use_multipart=False), put=len(data))

    def remove(self, name: str) -> None:
        """As any store. Raises UnsafeStore before the first write of a process."""
        self._prove()
        self._delete(name)

    def sync(self, name: str) -> None:
        """What the store has, it keeps; so this only looks."""
        self.entry(name)

    def read(self, name: str) -> bytes:
        """As any store."""
        return self._ask(name, lambda client: obstore.get(client, self._key(name)).bytes().to_bytes())

    def entry(self, name: str) -> Entry:
        """As any store."""
        found = self._ask(name, lambda client: obstore.head(client, self._key(name)))
        return Entry(name.rpartition("/")[2], found["size"], found["last_modified"].timestamp())

    def sha256(self, name: str) -> str:
        """As any store; the bytes are fetched for it."""
        return self._ask(name, lambda client: _copied(client, self._key(name), None)[1])

    def entries(self, folder: str) -> Iterator[Entry]:
        """As any store; folders in the folder are passed over."""
        key = self._key(folder)
        found = self._ask(folder, lambda client: obstore.list_with_delimiter(client, key or None))
        entries = [
            Entry(one["path"].rpartition("/")[2], one["size"], one["last_modified"].timestamp())
            for one in found["objects"]
        ]
        yield from sorted(entries, key=lambda entry: entry.name)

    def after(self, folder: str, name: str) -> list[str]:
        """As any store; the store lists from there on."""
        key = self._key(folder)

        def listed(client: S3Store) -> list[str]:
            pages = obstore.list(client, key or None, offset=f"{key}/{name}".strip("/"))
            return [one["path"][len(key) :].lstrip("/") for page in pages for one in page]

        return [found for found in self._ask(folder, listed) if "/" not in found]

    def tree(self) -> list[str]:
        """The names of all files under the root, those in folders too, sorted."""
        start = len(self._prefix) + 1 if self._prefix else 0
        return sorted(key[start:] for key in self._ask("", self._everything))

    def is_empty(self) -> bool:
        """As any store; what a probe left behind does not count."""

        def nothing(client: S3Store) -> bool:
            pages = obstore.list(client, self._key("") or None, chunk_size=_FIRST_LOOK)
            start = len(self._prefix) + 1 if self._prefix else 0
            return all(is_scratch(one["path"][start:]) for page in pages for one in page)

        return self._ask("", nothing)

    def source(self, name: str) -> Any:
        """A file object for pyarrow that fetches the ranges that it is asked for. Raises FileNotFoundError."""
        return pa.PythonFile(_Ranges(self, name), mode="r")

    def local(self, files: Sequence[Content]) -> list[str]:
        """The files' copies in this machine's cache, each checked by its sha256 when it is fetched."""
        return Cache(cache_folder(), cache_limit()).paths(files, self._fetch, READERS)

    def holds(self, file: Content) -> bool:
        """As any store; a copy that has changed on this machine is made again."""
        [path] = self.local([file])
        with open(path, "rb") as copy:
            same = hashlib.file_digest(copy, "sha256").hexdigest() == file.sha256
        if not same:
            os.unlink(path)
            self.local([file])
        return True

    def copy(self, name: str, sink: IO[bytes]) -> tuple[int, str]:
        """Copy a file into another, from its start; its size and sha256. Raises FileNotFoundError."""

        def get(client: S3Store) -> tuple[int, str]:
            sink.seek(0)
            sink.truncate()
            return _copied(client, self._key(name), sink)

        return self._ask(name, get)

    def part(self, name: str, start: int, end: int) -> bytes:
        """The bytes of a file from `start` up to `end`. Raises FileNotFoundError."""
        return bytes(self._ask(name, lambda client: obstore.get_range(client, self._key(name), start=start, end=end)))

    def tail(self, name: str, length: int) -> tuple[int, bytes]:
        """A file's size, and its last bytes, at most `length` of them. Raises FileNotFoundError."""

        def get(client: S3Store) -> tuple[int, bytes]:
            found = obstore.get(client, self._key(name), options={"range": {"suffix": length}})
            return found.meta["size"], found.bytes().to_bytes()

        return self._ask(name, get)

    def _fetch(self, file: Content, sink: IO[bytes]) -> None:
        """Copy a file, and make sure that it is the one that is meant. Raises Damaged."""
        try:
            size, sha256 = self.copy(file.name, sink)
        except FileNotFoundError:
            raise Damaged(f"{self.url(file.name)}: this data file is gone", VERIFY) from None
        if size != file.size:
            raise Damaged(f"{self.url(file.name)}: {size} bytes where {file.size} were written", VERIFY)
        if sha256 != file.sha256:
            raise Damaged(f"{self.url(file.name)}: its bytes are not those that were written", VERIFY)

    def _create(self, name: str, data: bytes | memoryview) -> bool:
        """Put an object where there is none. Whether there was one already: the mark in it says whose it is."""
        key, mark = self._key(name), secrets.token_hex(16)
        view = memoryview(data).cast("B")

        def put(client: S3Store) -> object:
            return obstore.put(client, key, view, mode="create", use_multipart=False, attributes={_MARK: mark})

        deadline = time.monotonic() + PATIENCE
        for wait in _waits():
            try:
                self._ask(name, put, put=len(view), new=True)
            except AlreadyExistsError:
                try:
                    return self._ask(name, lambda client: obstore.get(client, key).attributes).get(_MARK) == mark
                except FileNotFoundError:
                    # 409: another writer was at it at the same moment, and neither has it yet; or it was taken away.
                    if time.monotonic() > deadline:
                        raise LakeError(
                            f"{self.url(name)}: the store says again and again that there is one, and there is none",
                            "try again; is another program removing what is written?",
                        ) from None
            else:
                return True
            time.sleep(wait)
        raise AssertionError

    def _delete(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._ask(name, lambda client: obstore.delete(client, self._key(name)))

    def _everything(self, client: S3Store) -> list[str]:
        return [one["path"] for page in obstore.list(client, self._key("") or None) for one in page]

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}".strip("/")

    def _prove(self) -> None:
        """Try once in a process whether the store keeps two writers apart. Raises UnsafeStore."""
        bucket = (self._bucket, self.options.get("AWS_ENDPOINT_URL", ""))
        with _process.proving:
            if bucket not in _process.proved:
                self._probe()
                _process.proved.add(bucket)

    def _probe(self) -> None:
        folder = f".probe-{secrets.token_hex(8)}"
        alone, together = f"{folder}/alone", f"{folder}/together"
        try:
            if not self._create(alone, b"1"):
                raise _unsafe(self.uri, "it said that a new object was there already")
            if self._create(alone, b"2"):
                raise _unsafe(self.uri, "it replaced an object although it was asked not to (If-None-Match: *)")
            with ThreadPoolExecutor(PROBERS) as pool:
                new = pool.map(lambda number: self._create(together, b"%d" % number), range(PROBERS))
                won = [b"%d" % number for number, accepted in enumerate(new) if accepted]
            if len(won) != 1:
                raise _unsafe(self.uri, f"of {PROBERS} puts of one object at the same time, {len(won)} were accepted")
            if self.read(together) != won[0] or self.read(alone) != b"1":
                raise _unsafe(self.uri, "an object does not hold what the put that was accepted had sent")
            if [entry.name for entry in self.entries(folder)] != ["alone", "together"]:
                raise _unsafe(self.uri, "a list does not show the objects that were just put")
        finally:
            for name in (alone, together):
                # Credentials may be such that nothing can be deleted, which is a good idea.
                with contextlib.suppress(LakeError):
                    self._delete(name)

    def _client(self, put: int | None) -> S3Store:
        if _process.forked:
            raise LakeError(f"{self.uri}: this process is a fork of one that used a bucket", "start it by spawn")
        _process.used = True
        seconds = 0 if put is None else next((most for size, most in _PUT_SECONDS if put <= size), 0)
        if put is not None and not seconds:
            raise LakeError(f"{self.uri}: {put} bytes are more than one object may have", "write smaller files")
        if seconds not in self._clients:
            self._clients[seconds] = _connected(self._bucket, self.options, seconds)
        return self._clients[seconds]

    def _ask(
        self, name: str, call: Callable[[S3Store], Answer], *, put: int | None = None, new: bool = False
    ) -> Answer:
        """What the store answers. `put` is how many bytes it is sent. Passing faults are waited out.

        Raises FileNotFoundError, and AlreadyExistsError if something `new` is put: the caller knows what they mean.
        All else becomes a LakeError.
        """
        client = self._client(put)
        start = time.monotonic()
        for wait in _waits():
            try:
                answer = call(client)
            except (BaseError, FileNotFoundError) as error:
                text = str(error)
                self._reached = self._reached or _STATUS.search(text) is not None
                if new and isinstance(error, AlreadyExistsError):
                    raise
                if isinstance(error, FileNotFoundError) and "<Code>NoSuchBucket<" not in text:
                    raise FileNotFoundError(self.url(name)) from None
                patience = PATIENCE if self._reached else FIRST_PATIENCE
                if not _passing(text) or time.monotonic() - start + wait > patience:
                    raise self._fault(name, text) from None
            else:
                self._reached = True
                return answer
            time.sleep(wait)
        raise AssertionError

    def _fault(self, name: str, text: str) -> LakeError:
        """What went wrong, in a line, and what to do about it. Never says a credential."""
        code = match[1] if (match := _CODE.search(text)) else None
        status = int(match[1]) if (match := _STATUS.search(text)) else None
        place = self.url(name).rstrip("/")
        endpoint = self.options.get("AWS_ENDPOINT_URL") or "AWS"
        if code == "NoSuchBucket":
            return LakeError(f"{self.uri}: {endpoint} has no bucket {self._bucket}", "create it, or correct the name")
        if _ROLE.search(text) or (status is None and "credential" in text.lower()):
            return LakeError(f"{self.uri}: no credentials were found", _CREDENTIALS)
        if code in _WRONG_CREDENTIALS or status == 401:
            return LakeError(f"{place}: {endpoint} does not accept the credentials ({code or status})", _CREDENTIALS)
        if status == 403:
            return LakeError(
                f"{place}: access denied",
                f"allow s3:ListBucket on {self._bucket}, and s3:GetObject, PutObject and DeleteObject below it",
            )
        if code in _WRONG_REGION or status in {301, 307} or "redirect" in text:
            return LakeError(f"{place}: the bucket is in another region", "set AWS_REGION to the bucket's")
        if status is None:
            return LakeError(
                f"{self.uri}: no answer from {endpoint}: {_reason(text)}", "check AWS_ENDPOINT_URL and the network"
            )
        says = match[1] if (match := _SAYS.search(text)) else None
        why = ", ".join(filter(None, (str(status), code, says)))
        if code == "NotImplemented" or status == 501:
            return UnsafeStore(f"{place}: the store cannot do what a lake needs of it ({why})", _NEEDS)
        return LakeError(f"{place}: the store failed: {why}", "try again later; what was acknowledged is safe")


class _Ranges(io.RawIOBase):
    """A file of a bucket that is read in parts. Its end, where a Parquet file says what is where, comes first."""

    def __init__(self, bucket: Bucket, name: str) -> None:
        super().__init__()
        self._bucket = bucket
        self._name = name
        self._size, self._tail = bucket.tail(name, _TAIL_BYTES)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def read(self, length: int | None = -1) -> bytes:
        start = self._position
        end = self._size if length is None or length < 0 else min(start + length, self._size)
        if start >= end:
            return b""
        tail = self._size - len(self._tail)
        data = self._tail[start - tail : end - tail] if start >= tail else self._bucket.part(self._name, start, end)
        self._position = start + len(data)
        return data


def _copied(client: S3Store, key: str, sink: IO[bytes] | None) -> tuple[int, str]:
    """An object's size and sha256, while its bytes go to `sink`."""
    digest, size = hashlib.sha256(), 0
    for chunk in obstore.get(client, key).stream(min_chunk_size=_CHUNK_BYTES):
        view = memoryview(chunk)
        digest.update(view)
        size += len(view)
        if sink is not None:
            sink.write(view)
    return size, digest.hexdigest()


def _connected(bucket: str, options: Mapping[str, str], seconds: int) -> S3Store:
    """A client for reading, or for puts that take at most so many seconds. It asks once: `_ask` does so again."""
    config = {name.lower(): value for name, value in options.items()}
    # How it is told that an object must not be there yet; the variable of this name can turn it off.
    config["aws_conditional_put"] = "etag"
    config["aws_disable_bulk_delete"] = "true"
    try:
        return S3Store(
            bucket,
            config=config,  # type: ignore[arg-type] # its keys are known by now
            client_options={
                "allow_http": options.get("AWS_ALLOW_HTTP", "").lower() in {"true", "1"},
                "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
                "read_timeout": timedelta(seconds=seconds or SILENCE_SECONDS),
                "timeout": timedelta(seconds=seconds or 3600),
            },
            retry_config={"max_retries": 0},
        )
    except BaseError as error:
        raise UsageError(f"s3://{bucket}: {_reason(str(error))}", "correct the AWS_… variables or options") from None


def _waits() -> Iterator[float]:
    """Seconds between one attempt and the next: growing, and never the same for two writers."""
    longest = 0.05
    while True:
        yield random.uniform(longest / 2, longest)  # noqa: S311 -- jitter, no secret
        longest = min(longest * 2, _SLOWEST_WAIT)


def _passing(text: str) -> bool:
    """Whether a fault may be gone in a moment: the network's, an overloaded store's, or one of another writer."""
    status = int(match[1]) if (match := _STATUS.search(text)) else None
    if status is None:
        return "HTTP error" in text and _ROLE.search(text) is None
    return status in {408, 409, 425, 429} or (status >= 500 and status != 501)


def _reason(text: str) -> str:
    """The innermost cause that a client's error names."""
    causes = re.findall(r'"((?:dns|tcp|invalid|certificate|tls)[^"\n]*)"|message: "([^"\n]+)"', text, re.IGNORECASE)
    if "TimedOut" in text or "timed out" in text:
        return "it does not answer in time"
    if causes:
        return "; ".join(dict.fromkeys(first or second for first, second in causes))
    return text.split("\n", 1)[0].rpartition(": ")[2]


def _unsafe(uri: str, why: str) -> UnsafeStore:
    return UnsafeStore(f"{uri}: a lake is not safe in this store: {why}", _NEEDS)


_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN, if they are temporary)"
_NEEDS = "use a store that keeps 'If-None-Match: *' on puts: Amazon S3, MinIO or Cloudflare R2"
_WRONG_CREDENTIALS = {
    *("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"),
    *("AuthFailure", "InvalidClientTokenId", "MissingSecurityHeader"),
}
_WRONG_REGION = {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"}
