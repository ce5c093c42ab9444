"""What can go wrong, worded for the person who can mend it.

The command line prints the message as one line and exits with `exit_code`. `imaging` and `growth` import nothing of
the package, so their own errors (`ImageError`, `OutsideReferenceError`) are plain `ValueError`s there.
"""


class BoneAgeError(Exception):
    """The job could not be done."""

    exit_code = 1


class InputError(BoneAgeError):
    """Data, configuration or arguments are not usable; the message names file, row and value."""

    exit_code = 2


class ModelError(BoneAgeError):
    """A model is missing, incomplete, or its checksums do not match."""

    exit_code = 2


class MissingMetricError(BoneAgeError):
    """A figure that a decision needs is absent or not finite."""


class LedgerConditionError(BoneAgeError):
    """An entry was not written, as what it rests on no longer holds."""


class AnchorError(BoneAgeError):
    """An entry was written to the ledger, but the anchor outside it could not be moved; the next append does."""


class DatabaseUnavailableError(BoneAgeError):
    """The database does not answer now; later it may."""


class EntryRefusedError(BoneAgeError):
    """The database answers, and does not take a value."""


class UnknownRequestError(InputError):
    """No answer is on record under a request id."""


class BusyError(BoneAgeError):
    """Somebody else is at this work; the message says who."""
