"""Every error that mertric raises on purpose.

Each message says what was got, what was expected and what to do. Catch `MertricError` for all of them.
"""


class MertricError(Exception):
    """Base of all errors raised by mertric."""


class AudioError(MertricError):
    """A file or an array is not audio that can be scored: unreadable, empty, too short, not finite."""


class BundleError(MertricError):
    """A bundle is missing, incomplete, damaged or of another format version."""


class CheckpointError(MertricError):
    """A checkpoint cannot be read, or its tensors are not those its configuration calls for."""


class ConfigurationError(MertricError):
    """A model configuration asks for something that mertric does not support."""


class DependencyError(MertricError):
    """A package or a shared library that the request needs is not installed."""


class ExportError(MertricError):
    """An exported bundle does not reproduce its checkpoint, or cannot be written."""


class InputError(MertricError, ValueError):
    """An argument or an array is outside what a function takes: shape, dtype, range or name."""


class OutputError(MertricError):
    """A file cannot be written."""


class PairingError(MertricError):
    """References and estimates cannot be matched."""


class ProviderError(MertricError):
    """An execution provider or a precision cannot be used here."""


class TableError(MertricError):
    """A file of scores or ratings cannot be read, or lacks the columns it needs."""


RECOVERABLE = (MertricError, MemoryError)
"""What one clip may raise without ending a run of many."""


def problem_of(error: Exception) -> str:
    """Say what went wrong with one clip, or with the whole run."""
    if isinstance(error, MemoryError):
        detail = f" ({error})" if str(error) else ""
        return f"memory ran out{detail}. Use shorter clips or smaller batches."
    return str(error)
