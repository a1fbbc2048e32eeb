"""A server without TLS, for programs that only take TLS off; it is a thread of the tests."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"served")

    def log_message(self, *_):
        pass


class Backend(ThreadingHTTPServer):
    request_queue_size = 1024  # a connection that finds no room comes again after a second


@contextmanager
def backend():
    """Its port."""
    with Backend(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()
