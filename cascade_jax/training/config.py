"""What can be checked of a run's settings before anything is read."""

from ml_collections import ConfigDict

from cascade_jax.cascade import STAGES
from cascade_jax.data.labels import EMIDEC, LabelTable, make_label_table
from cascade_jax.errors import ConfigError
from cascade_jax.training.optimizers import make_optimizer
from cascade_jax.training.step import PARALLEL


def check_config(config: ConfigDict) -> None:
    """Raises ConfigError for what can be checked without the data."""
    if config.num_folds < 2:
        raise ConfigError(f"num_folds is {config.num_folds}; a cross-validation needs 2 or more")
    for name, allowed in (("folds", range(config.num_folds)), ("stages", (1, 2))):
        values = config[name]
        if not values or any(value not in allowed for value in values) or len(set(values)) < len(values):
            raise ConfigError(f"{name} is {values}; choose from {', '.join(map(str, allowed))}, each once")
    if config.folds_at_once < 0:
        raise ConfigError(f"folds_at_once is {config.folds_at_once}; it is 0 or more")
    if config.share_folds and config.data.corrected:
        raise ConfigError("share_folds: a cohort of corrections is gathered anew by each start; run one at a time")
    if not 0 <= config.phantom_share < 1:
        raise ConfigError(f"phantom_share is {config.phantom_share}; it goes from 0 to less than 1")
    if config.data.memory_gb < 0:
        raise ConfigError(f"data.memory_gb is {config.data.memory_gb}; it is 0 or more")
    if config.data.processes < 1:
        raise ConfigError(f"data.processes is {config.data.processes}; it is 1 or more")
    if config.data.processes > 1 and config.data.prepared.startswith("memory:"):
        raise ConfigError("data.processes: memory:// is of one process alone; data.processes=1 writes there")
    check_stages(config)


def labels_of(config: ConfigDict) -> LabelTable:
    """The table of labels that the config has.

    Raises:
        ConfigError: it cannot be.
    """
    try:
        table = make_label_table(config.labels.names, config.labels.targets)
    except ValueError as error:
        raise ConfigError(f"labels.{error}") from error
    if table != EMIDEC and not config.data.root:
        raise ConfigError("labels: phantoms have the challenge's labels only; data.root is needed for others")
    if table != EMIDEC and config.phantom_share:
        raise ConfigError("phantom_share: phantoms have the challenge's labels only; 0 leaves them out")
    return table


def check_stages(config: ConfigDict) -> None:
    """Raises ConfigError for what both kinds of run have: how networks compute and start, the stages' schedules."""
    if config.parallel not in PARALLEL:
        raise ConfigError(f"parallel is {config.parallel!r}; known: {', '.join(PARALLEL)}")
    if config.compute_dtype not in ("auto", "float32", "bfloat16"):
        raise ConfigError(f"compute_dtype is {config.compute_dtype!r}; known: auto, float32, bfloat16")
    if not 0 <= config.init_share <= 1:
        raise ConfigError(f"init_share is {config.init_share}; it goes from 0 to 1")
    for stage in STAGES:
        settings = config[stage]
        try:
            _check_steps(settings)
            make_optimizer(
                settings.optimizer, settings.schedule, settings.learning_rate, settings.steps, settings.clip_norm
            )
        except ValueError as error:
            raise ConfigError(f"{stage}: {error}") from error


def _check_steps(settings: ConfigDict) -> None:
    """Raises ValueError naming the setting, if a stage's numbers of steps do not fit together."""
    if settings.accumulate < 1:
        raise ValueError(f"accumulate is {settings.accumulate}; it must be 1 or more")
    for name in ("steps", "steps_per_dispatch", "validate_every", "checkpoint_every"):
        if settings[name] < 1:
            raise ValueError(f"{name} is {settings[name]}; it must be 1 or more")
        if settings[name] % settings.steps_per_dispatch:
            raise ValueError(
                f"{name} is {settings[name]}, not a multiple of steps_per_dispatch ({settings.steps_per_dispatch})"
            )
