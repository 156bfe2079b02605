"""A small HTTP server that does what bad lines and bad servers do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What the server has and how it behaves.

    Attributes:
        files: content by path.
        cuts: for each path, after how many bytes the next answers break off.
        statuses: for each path, what the next answers say instead.
        tags: ETag by path.
        ranges: whether ranges are served.
        together: answers wait until so many are asked for at the same time.
        asked: path and range of every request.
        sent: bytes of content.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    together: threading.Barrier | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    sent: int = 0
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site, path, wanted = self.site, self.path.lstrip("/"), self.headers.get("Range")
        site.asked.append((path, wanted))
        if site.together is not None:
            site.together.wait(10)
        if site.statuses.get(path):
            self.send_error(site.statuses[path].pop(0))
            return
        if path not in site.files:
            self.send_error(404)
            return
        content, tag, start = site.files[path], site.tags.get(path), 0
        condition = self.headers.get("If-Range")
        if wanted and site.ranges and condition in (None, tag):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if tag:
            self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        limit = site.cuts[path].pop(0) if site.cuts.get(path) else len(content)
        body = content[start : start + limit]
        site.sent += len(body)
        with suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serve the site on a free port of this machine."""
    handler = type("Bound", (_Handler,), {"site": site})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        site.url = f"http://127.0.0.1:{http.server_port}"
        try:
            yield site
        finally:
            http.shutdown()
            thread.join()
