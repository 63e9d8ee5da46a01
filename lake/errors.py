"""What can go wrong, as a tree. Every message says what is wrong and where; `hint` says what to do next.

* LakeError             the lake refused or failed                        exit code 1
  + UsageError          what was asked for cannot be                      exit code 2
    - UnknownRef        no snapshot, name, version or time like this one
  + NotALake            there is no lake at this URI
  + InvalidRows         rows that the kind's schema refuses; nothing was stored
  + SequenceTooLow      a producer sent a sequence that it has passed
    - SequenceTaken     under this sequence it sent other events before
  + Damaged             what is stored is not what was written
  + Contended           other writers won every race for the next version
"""


class LakeError(Exception):
    """The lake refused or failed. `hint`, if there is one, says what to type next."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type["LakeError"], tuple[str, str | None]]:
        return type(self), (self.message, self.hint)


class UsageError(LakeError):
    """What was asked for cannot be: a wrong option, value or reference."""

    exit_code = 2


class UnknownRef(UsageError):
    """No snapshot, name, version or time in this lake answers to this reference."""


class NotALake(LakeError):
    """There is no lake at this URI, or what is there is something else."""


class InvalidRows(LakeError):
    """Rows that the kind's schema refuses: a missing column, a lossy cast, a value outside its enum."""


class SequenceTooLow(LakeError):
    """A producer sent a sequence below the one that the table has recorded for it."""


class SequenceTaken(SequenceTooLow):
    """A producer sent other events under the sequence that the table has recorded for it."""


class Damaged(LakeError):
    """What is stored is not what was written: a property, a link of the chain, a file."""


class Contended(LakeError):
    """Other writers won every race for the next version; nothing was stored."""
