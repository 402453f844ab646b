"""The console command: `cascade-jax VERB [--flags]` does what `python -m launch.VERB [--flags]` does in a checkout."""

import importlib
import runpy
import sys

from .pipe import reader_may_leave  # relative, for the reason that `main` gives

VERBS = (
    "segment",
    "study",
    "predict",
    "evaluate",
    "agreement",
    "quantify",
    "report",
    "review",
    "dicom",
    "nnunet",
    "train",
    "plan",
    "phantom",
    "export",
    "release",
)
_ALSO = ("benchmark", "benchmarks.worker", "benchmarks.scaling_worker", "benchmarks.compare_machines", "septum")
_HELP = """cascade-jax VERB [--flags]

  segment     outline and measure a scan, or several
  study       a table of many patients' infarcts, from their DICOM or NIfTI files
  predict     outline hearts in images or a DICOM series
  evaluate    compare outlines with a reader's, by the EMIDEC challenge's metrics
  agreement   compare several readers' outlines with each other
  quantify    volumes, masses, infarct size, transmurality, AHA segments
  report      one HTML page to look through, one page of PDF a patient
  review      correct outlines in the browser, and measure again
  dicom       outline a DICOM series: NIfTI, DICOM segmentation and report
  nnunet      take a data set over from nnU-Net, or give it one
  train       train both stages on labelled cases: --config=emidec, corrections, phantom, pretrain, two_labels or a file
  plan        what a training will be, and whether it fits the device's memory
  phantom     simulate a cohort
  export      one StableHLO file that runs without this package
  release     a trained cascade as a few files
  benchmark   speed against PyTorch and nnU-Net

cascade-jax VERB --help lists a verb's flags."""


def main() -> None:
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("help", "--help", "-h"):
        with reader_may_leave(0):
            print(_HELP)
        sys.exit(0 if arguments else 2)
    verb, *rest = arguments
    if verb == "--version":
        from cascade_jax import __version__

        print(__version__)
        sys.exit(0)
    if verb not in (*VERBS, *_ALSO):
        print(f"error: there is no verb {verb!r} (see cascade-jax --help)", file=sys.stderr)
        sys.exit(2)
    # In a wheel this package has no name of its own at the top, which others use; its modules and configs call it so.
    sys.modules["launch"] = importlib.import_module(__package__)
    sys.argv = [f"cascade-jax {verb}", *rest]
    runpy.run_module(f"launch.{verb}", run_name="__main__", alter_sys=True)


def command(verb: str) -> list[str]:
    """How another process is started with a verb, from a checkout or an installed wheel."""
    return [sys.executable, "-m", f"{sys.modules['launch'].__name__}.console", verb]


if __name__ == "__main__":
    main()
