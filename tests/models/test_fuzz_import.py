"""No damaged file makes `import` crash, hang, or leave half an engine behind.

Here it is 150 files; `python -m tests.models.fuzz_import` takes a thousand, the first of which are these.
"""

from __future__ import annotations

import pytest

from .fuzz_import import fuzz

COUNT = 150


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_damaged_files() -> None:
    """Each is refused in words, or becomes an engine that is complete and proven."""
    wrong, ends = fuzz(COUNT, 1)
    assert not wrong, "\n".join(f"python -m tests.models.fuzz_import --only {n}: {wrong[n]}" for n in sorted(wrong))
    assert sum(ends.values()) == COUNT
    assert ends["refused"] > COUNT / 2
    assert ends["imported"] > 5  # some damage does no harm, so the whole way was gone
