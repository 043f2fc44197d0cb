"""The keep thread: writes pictures of parts that are worth a look. Nobody waits for it, and no error ends it.

What cannot be written is counted in `keep_failed`, what found no place on its shelf in `keep_skipped`.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from .codec import to_json
from .config import CAMERAS
from .kept import PICTURE, KeptFolder, Record, name_of
from .mailbox import Shelf
from .station import Station, ToKeep
from .types import Pixels

log = logging.getLogger(__name__)

TURN_S = 0.2
RETRY_S = 5.0  # so long after a failure nothing is tried
MEND = {
    errno.ENOSPC: "make room on that disk, or lower keep_mb",
    errno.EDQUOT: "make room on that disk, or lower keep_mb",
    errno.EROFS: "let the service write there (systemd/README.md), or mount the disk for writing",
    errno.EFBIG: "raise keep_mb, or the limit for files of this process",
}
OWN = "a folder that the daemon's user may write, see keep_folder"


class Keeper:
    """Takes from a shelf until `stop`, and then what is left on it. Counts in its stations' counters."""

    def __init__(self, folder: Path, limit: int, shelf: Shelf[ToKeep], stations: Mapping[str, Station]) -> None:
        """limit: bytes of the folder; stations: by name, those that keep pictures."""
        self.progress_ns = time.monotonic_ns()
        self._path = folder
        self._folder = KeptFolder(folder, limit)
        self._shelf = shelf
        self._stations = stations
        self._stop = threading.Event()
        self._failing = False
        self._again_s = 0.0
        for station in stations.values():
            station.counters.update(kept=0, keep_skipped=0, keep_failed=0)

    def stop(self) -> None:
        """Write what waits, then end."""
        self._stop.set()

    def run(self) -> None:
        """The loop."""
        while True:
            self.progress_ns = time.monotonic_ns()
            item = self._shelf.get(TURN_S)
            if item is not None:
                counter = "kept" if self._keep(item) else "keep_failed"
                self._stations[item.message["station"]].counters[counter] += 1
            elif self._stop.is_set():
                return

    def _keep(self, item: ToKeep) -> bool:
        """Write a picture, and give its frame back; whether it is there. The first failure of a row is logged."""
        with item.picture.frame as frame:
            if time.monotonic() < self._again_s:
                return False
            try:
                name = name_of(item.message, item.kind)
                self._folder.add(name, _encoded(frame.pixels), to_json(self._record(item)) + b"\n")
            except Exception as error:  # whatever it is, it costs a picture and nothing else
                self._again_s = time.monotonic() + RETRY_S
                if not self._failing:
                    log.error("pictures are not kept", extra={"folder": str(self._path), **_told(error)})
                self._failing = True
                return False
        if self._failing:
            log.info("pictures are kept again", extra={"folder": str(self._path)})
        self._failing = False
        return True

    def _record(self, item: ToKeep) -> Record:
        recipe, pixels = item.picture.recipe, item.picture.frame.pixels
        camera = self._stations[item.message["station"]].config.camera
        return {
            **item.message,
            "kind": item.kind,
            "labels": list(recipe.labels),
            "thresholds": [rule.threshold for rule in recipe.rules],
            "camera": next(name for name, kind in CAMERAS.items() if isinstance(camera, kind)),
            "size_px": (pixels.shape[1], pixels.shape[0]),
        }


def _encoded(pixels: Pixels) -> memoryview:
    """A BMP: 1 ms of a processor for 1280 x 1024, where a PNG of half the size takes 10 to 60 from the engine."""
    import cv2

    done, raw = cv2.imencode(PICTURE, pixels)
    if not done:
        raise ValueError("OpenCV could not encode the picture")
    return raw.data  # not copied: that would be another millisecond, and with the interpreter's lock


def _told(error: Exception) -> dict[str, str]:
    if not isinstance(error, OSError):
        return {"reason": repr(error)}
    return {"reason": error.strerror or repr(error), "mend": MEND.get(error.errno or 0, OWN)}
