"""What a user can do wrong besides the data, apart from what raises it, so that a command can import it alone."""


class ConfigError(ValueError):
    """A setting that cannot be; the text is one line that names it."""


class TrainingError(RuntimeError):
    """Training cannot go on; the text is one line that says at which step and why."""
