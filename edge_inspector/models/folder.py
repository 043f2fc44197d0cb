"""An engine: what lies in `engines/<name>/`. Owns model.toml's keys and where engine folders are looked for."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from ..contract import OUTPUTS
from ..errors import EngineMissing
from ..tables import read_file, read_table, read_toml
from ..wire import Identity
from . import manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptStep:
    """What a scripted engine answers to one part: boxes as [x1, y1, x2, y2, score, class], or trouble.

    delay_ms: how long it computes. error: it raises this text instead. lost: it raises it as an accelerator that
    cannot be used again.
    """

    boxes: tuple[tuple[float, float, float, float, float, float], ...] = ()
    delay_ms: float = 0.0
    error: str = ""
    lost: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTables:
    """The keys of model.toml. resize: `letterbox` keeps the aspect ratio, `stretch` does not.

    task: what its outputs are (contract.py). good: of a classifier's labels those that a good part has (what is
    not surely good is not good), of a segmentation's the background. sha256: of the model.onnx that was imported; "":
    any is taken.

    nms_iou: of boxes of one class that overlap by more than this the best stays; 1 keeps all. input_size and script
    make a scripted engine, which has no model.onnx: it answers step after step, and begins again; or, with by_mark,
    the step that the mark of a picture of the simulated plant tells: the first for a good board, the second for a
    defective one, the third for an empty belt; the next three are for the next picture. Its input_size must be that of
    the pictures, [640, 640].
    """

    labels: tuple[str, ...]
    task: str = "detect"
    resize: str = "letterbox"
    nms_iou: float = 0.5
    input_size: tuple[int, int] | None = None
    script: tuple[ScriptStep, ...] = ()
    good: tuple[str, ...] = ()
    sha256: str = ""
    by_mark: bool = False

    def __post_init__(self) -> None:
        if not self.labels:
            raise ValueError("labels: found none, expected the names of the classes, in the order of their numbers")
        if self.task not in OUTPUTS:
            raise ValueError(f'task: found "{self.task}", expected {" or ".join(OUTPUTS)}')
        for name in self.good:
            if name not in self.labels:
                raise ValueError(f'good: found "{name}", expected some of labels: {", ".join(self.labels)}')
        if self.resize not in ("letterbox", "stretch"):
            raise ValueError(f'resize: found "{self.resize}", expected "letterbox" or "stretch"')
        if bool(self.script) != (self.input_size is not None):
            raise ValueError("script: expected script and input_size together, for an engine without a model.onnx")
        if self.by_mark and (not self.script or len(self.script) % 3 or self.input_size != (640, 640)):
            raise ValueError("by_mark: expected a script in threes (good, defective, empty) and input_size [640, 640]")


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that is here: its folder and what model.toml says. identity: name, and SHA-256 of what computes.

    build: what was compiled of it, and is to run; None: model.onnx itself.
    """

    folder: Path
    tables: ModelTables
    identity: Identity
    build: manifest.Build | None = None

    @property
    def model(self) -> Path:
        """The graph: input `image` uint8 [1, H, W, 3] BGR, output `detections` float32 [1, K, 6]."""
        return self.folder / "model.onnx"

    @property
    def recipe(self) -> Path:
        """The recipe it came with."""
        return self.folder / "recipe.toml"


def shipped() -> Path:
    """The engines that came with this package: in the checkout it runs from, or where a wheel puts them."""
    checkout = Path(__file__).parents[2] / "engines"
    return checkout if checkout.is_dir() else Path(sys.prefix) / "share" / "edge-inspector" / "engines"


def find(name: str, engines: Path) -> Engine:
    """The engine of that name in the folder `engines`, else among those shipped.

    Raises EngineMissing, which names those that are there, or ConfigError for a wrong model.toml.
    """
    places = [engines, shipped()]
    folder = next((place / name for place in places if (place / name / "model.toml").is_file()), None)
    if folder is None:
        known = sorted({path.parent.name for place in places for path in place.glob("*/model.toml")})
        raise EngineMissing(
            f'no engine "{name}": found no {engines / name / "model.toml"}; '
            f"there is {', '.join(known) if known else 'none at all'}"
        )
    path = folder / "model.toml"
    tables: ModelTables = read_table(path, read_toml(path, read_file(path)), ModelTables, "")
    build = None if tables.script else manifest.current(folder)
    content = read_file(path) if tables.script else graph_of(folder, tables)
    if build is not None:
        content = build.file.read_bytes()
    return Engine(folder, tables, {"name": folder.name, "sha256": manifest.sha256(content)}, build)


def graph_of(folder: Path, tables: ModelTables) -> bytes:
    """The engine's model.onnx. Raises EngineMissing where it is none, or not the one that was imported."""
    path, name = folder / "model.onnx", folder.name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EngineMissing(f'engine "{name}": {path}: {error.strerror}; expected the ONNX graph there') from None
    if not content:
        raise EngineMissing(f'engine "{name}": {path}: is empty; expected the ONNX graph there')
    if content.startswith(b"version https://git-lfs"):
        raise EngineMissing(f'engine "{name}": {path}: is a Git LFS pointer, not the graph; run: git lfs pull')
    if tables.sha256 and manifest.sha256(content) != tables.sha256:
        mend = (
            "it came with edge-inspector: put it back from version control, or install edge-inspector again"
            if folder.parent.resolve() == shipped().resolve()
            else "put it back, or import it again with --replace: edge-inspector import FILE.onnx --replace --name "
            f"{manifest.where(folder)}"
        )
        raise EngineMissing(f'engine "{name}": {path}: is not the file that was imported (model.toml); {mend}')
    return content
