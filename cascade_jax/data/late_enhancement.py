"""Which of a study's series show late enhancement, by the words that scanners and people call them.

A description may hold a patient's name: it is looked at here, and never repeated.
"""

import re

# Each at the start of a word: LGE, DE, MDE and PSMDE (General Electric), PSIR, delayed, late, viability.
_LATE = re.compile(r"(?<![a-z])(?:(?:lge|de|mde|psmde)(?![a-z])|psir|delay|late(?!r)|viab)", re.IGNORECASE)
_PHASE_SENSITIVE = re.compile(r"psir|psmde|phase.?sens", re.IGNORECASE)
# What else a short axis is imaged for; "de" is a word of some languages, too.
_OTHERS = re.compile(r"cine|perf|map|tagg|scout", re.IGNORECASE)
# The second image that a phase-sensitive sequence makes, often under the same name with this word.
_MAGNITUDE = re.compile(r"(?<![a-z])mag(?![a-z])|magn", re.IGNORECASE)


def is_called_late(description: str) -> bool:
    """Whether a series' description suggests late enhancement."""
    if _OTHERS.search(description):
        return False
    return bool(_LATE.search(description) or _PHASE_SENSITIVE.search(description))


def is_called_phase_sensitive(description: str) -> bool:
    """Whether a series' description suggests a phase-sensitive reconstruction, and not the magnitude beside it."""
    return bool(_PHASE_SENSITIVE.search(description)) and not _MAGNITUDE.search(description)
