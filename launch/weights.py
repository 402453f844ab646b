"""Which trained cascade a command uses, and what it says of its licence."""

import sys
from typing import TYPE_CHECKING

from absl import flags

from cascade_jax.bundle import PRETRAINED, name_of

if TYPE_CHECKING:
    from cascade_jax import Cascade

flags.disclaim_key_flags()  # so that --help shows them as flags of the command that asks for them


def define_flags(*, required: bool = False) -> None:
    """Gives a command the flags `--weights` and `--workdir`, which mean the same.

    Args:
        required: whether one of them must be given; else the default are the better weights in the box.
    """
    default = "" if required else f" Default: {name_of(PRETRAINED)}."
    flags.DEFINE_string(
        "weights",
        None,
        "The weights, by their name in the box, or the folder of a finished training or of a release. In the box are "
        "phantom (trained on simulated hearts alone) and emidec (trained on EMIDEC, CC BY-NC-SA 4.0), also called "
        f"pretrained; a folder of such a name is ./emidec.{default}",
    )
    flags.DEFINE_string("workdir", None, "The same as --weights.")

    for name in ("weights", "workdir"):
        flags.register_validator(name, lambda value: value != "", "a name or a folder is needed")

    def one(values: dict) -> bool:
        return None in values.values() or values["weights"] == values["workdir"]

    flags.register_multi_flags_validator(("weights", "workdir"), one, "these mean the same: give one of them")
    if required:
        flags.register_multi_flags_validator(
            ("weights", "workdir"), lambda values: any(values.values()), "--weights is needed: a name or a folder"
        )


def chosen() -> str:
    """What the flags name; the default if neither is given."""
    return flags.FLAGS.weights or flags.FLAGS.workdir or PRETRAINED


def load(**settings) -> "Cascade":
    """The cascade that the flags name, loaded with `settings`; its licence, where it has one, is printed.

    Raises:
        CaseError: as `cascade_jax.load`.
    """
    import cascade_jax  # of which only this needs JAX

    cascade = cascade_jax.load(chosen(), **settings)
    print_licence(chosen(), cascade.licence)
    return cascade


def print_licence(weights, licence: str) -> None:
    """Says on standard error which licence weights are under; nothing where it is no other than this package's own."""
    if licence:
        print(f"weights: {name_of(weights)} ({licence})", file=sys.stderr)
