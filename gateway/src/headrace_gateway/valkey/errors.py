"""How a call to Valkey fails, by what the caller may conclude from it."""


class ValkeyError(Exception):
    """Base of all."""


class ValkeyUnavailable(ValkeyError):
    """There is no connection, or no room for another call on it: the command was not sent."""


class ValkeyConnectionLost(ValkeyError):
    """The connection went away under a call, or the call timed out: whether it was executed is unknown."""


class ValkeyRefused(ValkeyError):
    """Valkey answered with an error; `code` is its first word, e.g. `READONLY`."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = message.partition(" ")[0]

    @property
    def function_unknown(self) -> bool:
        """Valkey has no error code of its own for it."""
        return str(self) == "ERR Function not found"
