"""An MJPEG-over-HTTP camera for the tests: several clients, every frame carries its number (see `servers.number`).

Usage: mjpeg_server.py FPS [PORT]. Prints its port, then serves /cam until it is killed. /cam?still=N repeats frame N
for ever once it is reached, /cam?resize=N is half as wide from frame N on, /cam?stop=N ends the answer before frame N.
"""

import http.server
import sys
import time
import urllib.parse

import cv2
import numpy as np

WIDTH, HEIGHT, BLOCK = 320, 240, 20
BITS = WIDTH // BLOCK


def draw(number: int) -> np.ndarray:
    """A frame, uint8 [240, 320, 3]: its number as black and white blocks at the top, below them a bar that moves."""
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    for bit in range(BITS):
        image[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 255 * (number >> bit & 1)
    at = number * 7 % (WIDTH - 40)
    image[60:200, at : at + 40] = (30, 200, 240)
    return image


class Camera(http.server.BaseHTTPRequestHandler):
    """One client."""

    fps = 30.0
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        """Send frames at the rate of a camera until the client goes."""
        address = urllib.parse.urlsplit(self.path)
        asked = {key: int(values[0]) for key, values in urllib.parse.parse_qs(address.query).items()}
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        began, number = time.monotonic(), 0
        while number != asked.get("stop"):
            image = draw(min(number, asked.get("still", number)))
            if number >= asked.get("resize", number + 1):
                image = np.ascontiguousarray(image[:, : WIDTH // 2])
            jpeg = cv2.imencode(".jpg", image)[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            try:
                self.wfile.write(head.encode() + jpeg + b"\r\n")
            except OSError:
                return
            number += 1
            time.sleep(max(0.0, began + number / self.fps - time.monotonic()))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by the base class
        """Say nothing."""


def main() -> None:
    """Serve until killed."""
    Camera.fps = float(sys.argv[1])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 0), Camera)
    print(server.server_address[1], flush=True)  # noqa: T201 - the parent waits for it
    server.serve_forever()


if __name__ == "__main__":
    main()
