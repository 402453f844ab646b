"""What series of late enhancement are called."""

import pytest

from cascade_jax.data.late_enhancement import is_called_late, is_called_phase_sensitive

PSIR = ("DE_PSIR_SAX_PSIR", "de-psir_sa", "PSIR TFE SA", "SA PSMDE 10min", "LGE_phase_sensitive")
LATE = ("LGE sax", "sa_lge", "2D MDE SAX", "DE SA", "Late Gd SA", "SA delayed enh", "viability_tfi", "DE_PSIR_SAX_MAG")
OTHERS = ("cine_sa", "CINE DE EJE CORTO", "T1map_PSIR", "lateral scout", "plate", "model", "perfusion late", "deep", "")


@pytest.mark.parametrize("description", PSIR + LATE + OTHERS)
def test_series_are_told_by_what_they_are_called(description):
    assert is_called_late(description) == (description not in OTHERS)
    assert not is_called_late(description) or is_called_phase_sensitive(description) == (description in PSIR)
