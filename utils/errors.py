"""Every error that utils raises.

NemoError
  Unreachable     nothing answers at the URL
  Refused         a service answered with an error status
    NotFound      404
    Conflict      409
    Unavailable   408, 425, 429, 500, 502, 503, 504
  JobFailed       a job ended other than completed
  GuardFailed     the guard gave too few verdicts
  TimedOut        a deadline passed before the condition held
  OutOfOrder      a notebook needs the result of an earlier one
  InvalidFile     a data file cannot be read; names file and line
  InvalidRow      a data row cannot be used; names row and column
"""


class NemoError(Exception):
    """Whatever goes wrong between a notebook and the platform."""


class Unreachable(NemoError):
    """Nothing answers at the URL; the message says how to start it or which setting to change."""


class Refused(NemoError):
    """A service answered with an error status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class NotFound(Refused):
    """404: what the request names does not exist."""


class Conflict(Refused):
    """409: what the request would create exists."""


class Unavailable(Refused):
    """408, 425, 429, 5xx: the service, or a gateway for it, says that it cannot answer now."""


class JobFailed(NemoError):
    """A job ended as failed or cancelled; the message carries its last log lines."""


class GuardFailed(NemoError):
    """The guard gave too few verdicts to score it; the message says what it did instead."""


class TimedOut(NemoError):
    """A deadline passed before the condition held."""


class OutOfOrder(NemoError):
    """A notebook needs what an earlier one leaves behind; the message names that one."""


class InvalidFile(NemoError):
    """A data file cannot be read; the message says `file:line`."""


class InvalidRow(NemoError):
    """A data row cannot be used."""

    def __init__(self, row_id: object, column: str, reason: str) -> None:
        super().__init__(f"row {row_id}, column {column!r}: {reason}")
        self.row_id = row_id
        self.column = column
        self.reason = reason
