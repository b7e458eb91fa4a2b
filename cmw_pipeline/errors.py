"""Errors a user can cause or meet, each with its own exit code.

The command line prints ``message`` (what is wrong, where, expected against found) and ``hint`` (what to
type next) in place of a traceback, and exits with ``exit_code``.
"""

INSTALL = "`pip install 'cmw-pipeline[pipeline]'`"
"""What brings the libraries that a plain install leaves out."""


class CmwError(Exception):
    """Base of every foreseen failure."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nHint: {self.hint}"


class ConfigError(CmwError):
    """The request is wrong: ``params.yaml``, a name, or a command-line argument."""

    exit_code = 2


class IntegrityError(CmwError):
    """Bytes are not what they should be: an archive, an artefact, a checkpoint, a label file."""

    exit_code = 3


class NumericsError(CmwError):
    """A loss, a gradient or a sample weight is not finite."""

    exit_code = 4


class SystemFault(CmwError):
    """The machine cannot do it: disk, memory, network, permission, device."""

    exit_code = 5


class Preempted(CmwError):
    """A signal asked the run to stop; a checkpoint was written and the same command continues it."""

    exit_code = 143
