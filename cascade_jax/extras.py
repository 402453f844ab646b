"""What an installation may lack: the packages of setup.cfg's extras, and how a user gets them."""

from importlib.util import find_spec

# By the names under which they are imported.
_PACKAGES = {
    "dicom": ("highdicom", "pydicom"),
    "formats": ("SimpleITK",),
    "logs": ("tensorboardX",),
    "report": ("contourpy", "jinja2", "matplotlib", "PIL"),
    "stream": ("grain",),
    "tables": ("openpyxl",),
}


def missing(extra: str) -> str | None:
    """The command that installs an extra of this package, "dicom", "formats", "logs", "report", "stream" or "tables";
    None where all of it is there. Nothing is imported."""
    there = all(find_spec(name) for name in _PACKAGES[extra])
    return None if there else f"pip install 'cascade_jax[{extra}]'"
