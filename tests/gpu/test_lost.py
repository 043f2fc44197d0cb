"""A kernel that writes to a wrong address, for real: the process cannot use the GPU again, and says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

BREAK = """
import sys
from pathlib import Path
from edge_inspector.errors import EngineFault, EngineLost
from edge_inspector.runners.tensorrt import TensorRTRunner

PTX = b'''
.version 7.0
.target sm_75
.address_size 64
.visible .entry broken()
{
    .reg .u64 %where;
    .reg .u32 %what;
    mov.u64 %where, 16;
    mov.u32 %what, 1;
    st.global.u32 [%where], %what;
    ret;
}
\\0'''
runner = TensorRTRunner(Path(sys.argv[1]), "detect", sys.argv[2])
runner.submit(0)
runner.collect(0)
with runner._device.current():
    runner._device._pycuda.module_from_buffer(PTX).get_function("broken")(block=(1, 1, 1), grid=(1, 1))
said = []
for lane in (0, 1, 0, 1):
    try:
        runner.submit(lane)
        runner.collect(lane)
        said.append("answered")
    except (EngineFault, EngineLost) as error:
        said.append(f"{type(error).__name__}: {error}")
print("|".join(said), flush=True)
runner.close()
print("closed", flush=True)
"""


def test_an_illegal_address_loses_the_engine(plan: Path, target: str) -> None:
    """EngineLost, once it is seen again and again, never a fault that looks as if the next part could be better."""
    done = subprocess.run(
        [sys.executable, "-c", BREAK, str(plan), target],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stderr
    said = lines[0].split("|")
    first = next(n for n, words in enumerate(said) if words != "answered")  # it may take a moment to be seen
    assert all(words.startswith("EngineLost") and "ILLEGAL_ADDRESS (700)" in words for words in said[first:]), said
    assert lines[1] == "closed"
