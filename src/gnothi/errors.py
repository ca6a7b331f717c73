"""The six exceptions. Every message reads `<where> must <rule>, got <value>. <What to do>.`

The subclasses are standard exceptions too, so that a plain `except ValueError` holds. A model that refuses or
babbles is data, not an error: it is kept with a reason and counted.
"""


class GnothiError(Exception):
    """Base of everything this package raises on purpose; the command line prints it and exits with 2."""


class SpecError(GnothiError, ValueError):
    """An impossible specification: an unknown name, a value out of range, a file that does not parse."""


class DataError(GnothiError, ValueError):
    """Records that do not fit: wrong shape, NaN, a key twice."""


class ModelError(GnothiError, RuntimeError):
    """A model or adapter that cannot do what is asked of it."""


class TrainingError(GnothiError, RuntimeError):
    """Training that diverged or had nothing to train on."""


class StoreError(GnothiError, OSError):
    """A run folder that is missing, altered, in use or cannot be written."""
