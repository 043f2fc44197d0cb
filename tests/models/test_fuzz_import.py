"""No damaged file makes `import` crash, hang, or leave half an engine behind."""

from __future__ import annotations

import pytest

from .fuzz_import import fuzz


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_thousand_damaged_files() -> None:
    """Each is refused in words, or becomes an engine that is complete and proven."""
    wrong, ends = fuzz(1000, 1)
    assert not wrong, "\n".join(f"python -m tests.models.fuzz_import --only {n}: {wrong[n]}" for n in sorted(wrong))
    assert sum(ends.values()) == 1000
    assert ends["refused"] > 500
    assert ends["imported"] > 20  # some damage does no harm, so the whole way was gone
