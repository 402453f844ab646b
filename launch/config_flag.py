"""The flag of commands that take a training's config: a file with get_config(), or a name of one of those here."""

from absl import flags
from ml_collections import ConfigDict, config_flags

from cascade_jax.errors import ConfigError

flags.disclaim_key_flags()  # so that --help shows it as a flag of the command that asks for it


def define() -> flags.FlagHolder:
    """Defines --config, and --config.key for each of its settings."""
    return config_flags.DEFINE_config_file(
        "config",
        None,
        "A file with get_config(), or a name: emidec, emidec:laptop, corrections, phantom, pretrain or two_labels.",
        lock_config=True,
    )


def load(flag: flags.FlagHolder) -> ConfigDict:
    """The config that is given; raises ConfigError where there is no such file."""
    try:
        return ConfigDict(flag.value)
    except OSError:
        path = config_flags.get_config_filename(flags.FLAGS["config"])
        raise ConfigError(f"--config={path}: there is no such file") from None
