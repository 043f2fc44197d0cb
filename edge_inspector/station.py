"""Station: what the threads of a line share about one camera and its engine. Each field has one writing thread.

Owns the question "is this station fit to inspect?", which the heartbeat answers.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

from .config import KEEP, StationConfig
from .ledger import Ledger, Part, Stage, guard_for
from .mailbox import Shelf
from .recipe import Recipe
from .types import Frame, Outcome, Reason, Verdict
from .wire import Identity, Origin, VerdictMessage

FAULTS_IN_A_ROW = 3  # so many engine faults one after another, and the station is no longer ready
TRIGGERS_KEPT = 16_384  # ids by which a duplicate is recognised
DEGRADED_NS = 5_000_000_000  # so long after a fault verdict a station calls itself degraded


@dataclass(slots=True)
class EngineHealth:
    """Written by the infer thread. busy_since_ns: when it last entered the runner, 0 while it is outside.

    probes: inferences without a part, to keep it warm or to see whether it answers again.
    """

    busy_since_ns: int = 0
    faults_in_a_row: int = 0
    service_ns: float = 0.0
    lost: str = ""
    probes: int = 0

    def stuck(self, now_ns: int, longer_than_ns: int) -> bool:
        """Whether the runner has not come back for longer than that."""
        since = self.busy_since_ns
        return since != 0 and now_ns - since > longer_than_ns


@dataclass(slots=True)
class Station:
    """One station of a running line.

    pending: gateway triggers that wait for their frame (publisher appends and sets `triggered`, grab takes).
    recipe: swapped whole by SIGHUP. camera_problem: why no usable frame comes, "" while they do (grab writes).
    frame_size: (height, width), once it is open. ledger: the publisher's alone. shelf: where pictures are kept; None
    where they are not. spare_frames: how many frames that may hold, or the engine's lanes for it.
    """

    config: StationConfig
    origin: Origin
    recipe: Recipe
    engine: EngineHealth
    ledger: Ledger = field(init=False)
    pending: deque[Part] = field(default_factory=deque)
    triggered: threading.Event = field(default_factory=threading.Event)
    camera_problem: str = "not opened yet"
    frame_size: tuple[int, int] = (0, 0)
    ended: bool = False
    phase: str = "starting"
    last_fault_ns: int = 0
    last_fault: str = ""
    counters: dict[str, int] = field(default_factory=dict)
    shelf: Shelf[ToKeep] | None = None
    spare_frames: int = 0

    def __post_init__(self) -> None:
        # a camera's parts are numbered here, once each: only what a gateway sends can come twice
        memory = TRIGGERS_KEPT if self.config.trigger == "gateway" else 1
        self.ledger = Ledger(guard_ns=guard_for(self.config.deadline_ns), memory=memory)

    @property
    def name(self) -> str:
        """The station's name."""
        return self.config.name

    def part(self, trigger_id: int, t_trigger_ns: int) -> Part:
        """A new part whose time runs from t_trigger_ns."""
        return Part(self.name, trigger_id, t_trigger_ns, t_trigger_ns + self.config.deadline_ns)

    def keeps(self, verdict: Verdict) -> str:
        """As what of its `keep` a part's picture is kept; "" where it is not."""
        doubtful = verdict.near_misses or (verdict.defects and verdict.outcome is Outcome.PASS)
        late = verdict.outcome is Outcome.FAULT and verdict.reason is not Reason.ENGINE_FAULT
        kinds = ("" if late else verdict.outcome.value, "near_miss" if doubtful else "")
        return next((kind for kind in KEEP if kind in kinds and kind in self.config.keep), "")

    def picture(self, frame: Frame, verdict: Verdict, recipe: Recipe) -> Picture | None:
        """Hand a part's frame on where its picture is kept and there is a place for it. The infer thread's."""
        if self.shelf is None or not self.keeps(verdict):
            return None
        placed = self.shelf.place(frame)
        if placed is None:
            self.counters["keep_skipped"] += 1
            return None
        return Picture(placed, recipe)

    def state(self, now_ns: int) -> tuple[str, str]:
        """(`starting`, `ready`, `degraded`, `fault` or `stopping`; why)."""
        if self.phase != "serving":
            return self.phase, ""
        if self.engine.lost:
            return "fault", f"engine: {self.engine.lost}"
        if self.engine.stuck(now_ns, self.config.deadline_ns):
            return "fault", "engine: no answer within the deadline"
        if self.engine.faults_in_a_row >= FAULTS_IN_A_ROW:
            return "fault", f"engine: {self.engine.faults_in_a_row} faults in a row"
        if self.camera_problem and not self.ended:
            return "fault", f"camera: {self.camera_problem}"
        if self.last_fault_ns and now_ns - self.last_fault_ns < DEGRADED_NS:
            return "degraded", self.last_fault
        return "ready", ""

    def why_late(self, part: Part, now_ns: int) -> Reason:
        """The reason of the fault for a part whose time is up: what it was still waiting for."""
        if part.stage is Stage.AWAITING_FRAME and self.phase == "stopping":
            return Reason.SHUTDOWN
        if part.stage is Stage.AWAITING_FRAME:
            return Reason.CAMERA_FAULT if self.camera_problem else Reason.NO_FRAME
        if part.stage is Stage.QUEUED and not self.engine.stuck(now_ns, self.config.deadline_ns // 2):
            return Reason.OVERLOAD
        return Reason.TIMEOUT


@dataclass(frozen=True, slots=True)
class Opened:
    """To the publisher: a part has come. Always before anything else about it."""

    part: Part


@dataclass(frozen=True, slots=True)
class Picture:
    """A part's frame with a place on the shelf, and what the part was judged by."""

    frame: Frame
    recipe: Recipe


@dataclass(frozen=True, slots=True)
class Decided:
    """To the publisher: this is to be said of the part, by this recipe. picture: to be kept, if it is said."""

    part: Part
    verdict: Verdict
    recipe: Identity
    picture: Picture | None = None


@dataclass(frozen=True, slots=True)
class ToKeep:
    """To the keep thread: a picture, what was published of its part, and as what it is kept."""

    picture: Picture
    message: VerdictMessage
    kind: str


Event = Opened | Decided


@dataclass(slots=True)
class Job:
    """A frame on its way to the engine. part: None in free-run, where taking the frame is what makes it a part."""

    station: Station
    frame: Frame
    part: Part | None
    verdict: Verdict | None = None


def identity(recipe: Recipe) -> Identity:
    """A recipe as verdicts name it."""
    return {"name": recipe.name, "sha256": recipe.sha256}
