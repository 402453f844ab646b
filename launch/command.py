"""What commands do alike: parse flags, report a user's error in one line, cache compiled programs.

A command's module imports at its top what its flags need, and the rest in its `main`: `--help` and a wrong flag are
answered before NumPy or JAX are loaded.
"""

import hashlib
import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

from absl import app, flags, logging

from cascade_jax.data.files import make_writable_folder
from cascade_jax.errors import CaseError, ConfigError, TrainingError, is_out_of_memory
from cascade_jax.extras import missing
from cascade_jax.stopping import Stopped, handling_signals
from launch.pipe import reader_may_leave

_ERRORS = (CaseError, ConfigError, TrainingError)
_FULL = (
    "the device's memory is full ({}): end what else uses it, or compute on the processor with JAX_PLATFORMS=cpu; "
    "`cascade-jax plan` says what a training takes, and how it takes less"
)
_LARGEST_CACHE_BYTES = 500_000_000
_CONFIGS = Path(__file__).parent / "configs"


def run(
    main: Callable[..., int | None], required: tuple[str, ...], *, private: bool = False, inputs: str | None = None
) -> None:
    """Runs a command and exits with its status; whatever it raises ends in one line.

    Args:
        main: the command; what it returns is the exit status, None is 0.
        required: names of the flags that must be given.
        private: whether what an unexpected error says may quote a patient's data, and is therefore not repeated.
        inputs: where arguments that are no flags are what the command works on, what one of them is; `main` then gets
            the list of them, and one at least must be given. Flags may stand before, between and behind them.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # for names of files that are not UTF-8

    def parse(arguments: list[str]) -> list[str]:
        flags.mark_flags_as_required(required)
        flags.FLAGS.set_gnu_getopt(inputs is not None)
        arguments = [_with_path(argument) for argument in arguments]
        try:
            with reader_may_leave(0):
                rest = flags.FLAGS(arguments)
        except SystemExit as end:  # absl's --help ends with 1
            sys.exit(0 if end.code == 1 else end.code)
        except (AttributeError, KeyError) as error:  # what ml_collections raises for a key that a config lacks
            _fail(2, f"{_unknown_setting(error, arguments)} (see {_CONFIGS / 'default.py'})")
        except (flags.Error, TypeError, ValueError, OSError) as error:
            if path := _missing_config(arguments):  # of which ml_collections says nothing where a setting is given too
                _fail(2, f"--config={path}: there is no such file")
            _fail(2, f"{_first_line(error)} (see --help)")
        except Exception as error:  # of a config, which is a program
            _fail(2, _unexpected(error, private))
        if inputs and len(rest) == 1:
            _fail(2, f"give {inputs} (see --help)")
        if not inputs and len(rest) > 1:
            _fail(2, f"unexpected argument {rest[1]!r} (see --help)")
        return rest

    def guarded(arguments: list[str]) -> None:
        logging.set_verbosity(logging.WARNING)  # Orbax tells of every file it opens
        try:
            with reader_may_leave(), handling_signals():
                status = main(arguments[1:]) if inputs else main()
        except _ERRORS as error:
            _fail(1, _first_line(error))
        except Stopped as stopped:
            _fail(stopped.status, str(stopped))
        except KeyboardInterrupt:
            _fail(130, "interrupted; run the same command again to go on")
        except Exception as error:
            _fail(1, _FULL.format(_first_line(error)) if is_out_of_memory(error) else _unexpected(error, private))
        sys.exit(status)

    app.run(guarded, flags_parser=parse)


def _unexpected(error: Exception, private: bool) -> str:
    """One line about an error that nobody has foreseen; where it came from goes to a file that the line names."""
    if isinstance(error, OSError) and error.strerror:
        message = f"{error.filename}: {error.strerror}" if error.filename and not private else error.strerror
    else:
        message = type(error).__name__ + ("" if private else f": {_first_line(error)}")
    frames = traceback.format_tb(error.__traceback__) if private else traceback.format_exception(error)
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="cascade_jax-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write("".join([*frames, message, "\n"]))
    except OSError:  # no room, it may be just what went wrong
        return f"{message} (nor could its traceback be written)"
    return f"{message} (its traceback is in {file.name})"


def configure_jax(*, hold_memory: bool = False) -> None:
    """Sets this process up for JAX: a cache of compiled programs, and what only a CPU needs (`cascade_jax.cpu`). To be
    called before JAX is asked for its devices or given anything to compute.

    Args:
        hold_memory: as for `cascade_jax.cpu.configure`.
    """
    from cascade_jax import cpu  # not by commands that compute nothing

    _enable_compilation_cache()
    cpu.configure(hold_memory=hold_memory)


def _enable_compilation_cache() -> None:
    """Keeps compiled programs in JAX's own cache, so that the next start compiles nothing anew.

    The cache holds code that later starts run. It therefore lies in the user's own cache (XDG_CACHE_HOME, or ~/.cache),
    apart for each kind of processor, and never beside a model or in a working folder, which someone else may have made.
    Where there is no such folder, nothing is cached. JAX's own settings, such as JAX_COMPILATION_CACHE_DIR, have
    precedence.
    """
    import jax

    settings = {"jax_persistent_cache_min_compile_time_secs": 0.0, "jax_persistent_cache_min_entry_size_bytes": -1}
    if not jax.config.jax_compilation_cache_dir:
        try:
            cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
            folder = cache.absolute() / "cascade_jax" / f"{jax.__version__}-{_processor()}"
            make_writable_folder(folder)
        except (CaseError, RuntimeError):  # the second where the user has no home
            return
        settings |= {"jax_compilation_cache_dir": str(folder), "jax_compilation_cache_max_size": _LARGEST_CACHE_BYTES}
    for name, value in settings.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)


def _processor() -> str:
    """A word that differs between processors whose machine code may."""
    about = Path("/proc/cpuinfo")
    text = about.read_text() if about.exists() else platform.processor()
    features = sorted({line for line in text.splitlines() if line.startswith(("flags", "Features", "model name"))})
    return hashlib.sha256("\n".join(features or [text]).encode()).hexdigest()[:12]


def _with_path(argument: str) -> str:
    """A flag that names one of the configs here, with its path: --config=phantom."""
    flag, equals, value = argument.partition("=")
    name, colon, settings = value.partition(":")
    path = _CONFIGS / f"{name}.py"
    if flag.lstrip("-") != "config" or "/" in name or not path.exists():
        return argument
    return f"{flag}{equals}{path}{colon}{settings}"


def _missing_config(arguments: list[str]) -> str:
    """The file of --config where there is none; else nothing."""
    given = [argument.partition("=")[2] for argument in arguments if argument.lstrip("-").startswith("config=")]
    paths = [value.partition(":")[0] for value in given]
    return next((path for path in paths if not Path(path).is_file()), "")


def _unknown_setting(error: BaseException, arguments: list[str]) -> str:
    settings = [argument.lstrip("-").split("=")[0] for argument in arguments if "config." in argument]
    named = [setting for setting in settings if setting.split(".")[-1] in str(error)]
    return f"there is no setting {', '.join(named or settings)}"


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def print_skipped(lines: Iterable[str]) -> None:
    """Names on standard error what was not used, a line each."""
    for line in lines:
        print(f"skipped: {line}", file=sys.stderr)


def define_corrected() -> flags.FlagHolder:
    """The flag of commands that take corrected labels where there are any."""
    return flags.DEFINE_bool(
        "corrected", True, "Take the labels that a reader has corrected (`cascade-jax review`) where there are any."
    )


def define_strict() -> flags.FlagHolder:
    """The flag by which a warning is a failure."""
    return flags.DEFINE_bool(
        "strict",
        False,
        "Count a case with any warning as failed: the exit status is 1, and a line names the case and the warnings' "
        "codes. Its labels are written all the same.",
    )


def print_corrected(predictions: Path) -> None:
    """Says on standard error how many cases of a folder are taken as a reader has corrected them, if any."""
    from cascade_jax.data import corrections, folders

    found = corrections.find_corrections(predictions, faults={})
    for line in corrections.describe(found, folders.find_contours(predictions, faults={})):
        print(line, file=sys.stderr)


def print_left_out(extra: str, what: str) -> None:
    """Says on standard error what will not be made where an extra of this package is missing, and how to get that."""
    if install := missing(extra):
        print(f"left out: {what}, which need {install}", file=sys.stderr)


def _fail(status: int, line: str) -> None:
    print(f"error: {line}", file=sys.stderr)
    sys.exit(status)
