"""What a user can do wrong, apart from what raises it, so that a command can import it alone."""

_LONGEST_FAULT = 2000  # characters; a file may be quoted in it


class CaseError(ValueError):
    """Something about a file or folder that makes it unusable.

    Its text is one line that names the file and the fault, fit to be shown to a user as it is: what does not print, in
    a file's name or in what is quoted of its content, is written as Python writes it, a line break as \\n.
    """

    def __init__(self, path, fault: str):
        fault = fault if len(fault) <= _LONGEST_FAULT else f"{fault[:_LONGEST_FAULT]}..."
        self.path, self.fault = str(path), _printable(fault)
        super().__init__(f"{_printable(self.path)}: {self.fault}")


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


class ConfigError(ValueError):
    """A setting that cannot be; the text is one line that names it."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is XLA's about a device whose memory is full. It is known by its name, since JAX is not imported
    here."""
    names = {kind.__name__ for kind in type(error).__mro__}
    text = str(error).lower()
    return bool(names & {"JaxRuntimeError", "XlaRuntimeError"}) and (
        "resource_exhausted" in text or "out of memory" in text
    )


class TrainingError(RuntimeError):
    """Training cannot go on; the text is one line that says at which step and why."""


class LostError(TrainingError):
    """Another process of the same run has ended, or cannot be reached.

    Args:
        index: of this process, from 0; None where only the cluster knows.
        count: how many processes there are.
    """

    def __init__(self, index: int | None, count: int | None):
        this = "this process" if index is None else f"process {index} of {count}"
        super().__init__(
            f"{this} stops, since another one has ended or cannot be reached: look at what that one said; the same "
            "command, on as many processes as there are, goes on from the last checkpoint"
        )
