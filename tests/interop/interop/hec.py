"""An HTTP Event Collector that keeps what is posted to it, by token. It judges nothing: that is the checks' part."""

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hec:
    def __init__(self) -> None:
        self._bodies: dict[str, list[str]] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> "Hec":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def bodies(self, token: str) -> list[str]:
        with self._lock:
            return list(self._bodies.get(token, []))

    def _keep(self, token: str, body: str) -> None:
        with self._lock:
            self._bodies.setdefault(token, []).append(body)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        keep = self._keep

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Content-Encoding"] == "gzip":
                    body = gzip.decompress(body)
                scheme, _, token = self.headers["Authorization"].partition(" ")
                if self.path != "/services/collector" or scheme != "Splunk":
                    self._answer(404, {"text": "The requested URL was not found", "code": 404})
                    return
                keep(token, body.decode())
                self._answer(200, {"text": "Success", "code": 0})

            def _answer(self, status: int, answer: dict) -> None:
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def split(body: str) -> list[object]:
    """The JSON values that stand one after the other, as Splunk takes them apart."""
    decoder, values, at = json.JSONDecoder(), [], 0
    while at < len(body):
        if body[at].isspace():
            at += 1
            continue
        value, at = decoder.raw_decode(body, at)
        values.append(value)
    return values
