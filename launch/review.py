"""Shows predicted outlines in the browser, to be corrected by pen and measured again.

    cascade-jax review FOLDER_OF_PREDICTIONS --images=FOLDER [--port=0] [--reader=NAME] [--no_browser]

The cases come with the most doubtful first. What a reader saves goes to FOLDER/<case>/Corrected/<case>.nii.gz, and who
corrected what and when beside it; the prediction stays as it is. `cascade-jax quantify` and `report` take corrected
labels where there are any. The page is served on this machine alone, to whoever has its address; Ctrl-C ends it.
"""

import getpass
from pathlib import Path

from absl import flags

from cascade_jax.errors import ConfigError
from launch import command

_IMAGES = flags.DEFINE_string(
    "images",
    None,
    "The images of the same cases: a file, a folder of them, or a cohort; without it, those that `predict --images` "
    "wrote into the folder of predictions.",
)
_PORT = flags.DEFINE_integer("port", 0, "On which the page is served; 0 takes a free one.", 0, 65535)
_READER = flags.DEFINE_string("reader", None, "Under whose name corrections are saved; without it, this login's.")
_NO_BROWSER = flags.DEFINE_bool("no_browser", False, "Print the page's address and open no browser.")


def main(inputs: list[str]) -> int:
    from cascade_jax.commands.review import review
    from cascade_jax.data import folders

    if len(inputs) > 1:
        raise ConfigError(f"one folder is looked through, and {len(inputs)} are given (see --help)")
    predictions = Path(inputs[0])
    images = Path(_IMAGES.value) if _IMAGES.value else predictions
    command.print_skipped(folders.list_skipped(predictions, folders.find_contours))
    review(predictions, images, (_READER.value or _login()).strip(), _PORT.value, not _NO_BROWSER.value)
    return 0


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in containers
        raise ConfigError("--reader is needed: under whose name corrections are saved") from None


if __name__ == "__main__":
    command.run(main, required=(), private=True, inputs="the folder of predictions")
