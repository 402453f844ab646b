"""What a user can do wrong, apart from what raises it, so that a command can import it alone."""


class CaseError(ValueError):
    """Something about a file or folder that makes it unusable.

    Its text is one line that names the file and the fault, fit to be shown to a user as it is.
    """

    def __init__(self, path, fault: str):
        self.path, self.fault = str(path), fault
        super().__init__(f"{path}: {fault}")


class ConfigError(ValueError):
    """A setting that cannot be; the text is one line that names it."""


class TrainingError(RuntimeError):
    """Training cannot go on; the text is one line that says at which step and why."""
