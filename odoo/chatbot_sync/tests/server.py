"""A web server on loopback whose responses a test defines."""

import contextlib
import http.server
import threading


@contextlib.contextmanager
def serving(answer):
    """Serves ``answer(handler)`` to each GET. Yields an object with its ``port`` and the ``requests`` that it
    received."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'

        def do_GET(self):
            self.server.requests.append((self.path, dict(self.headers)))
            with contextlib.suppress(OSError):  # the client has closed the connection
                answer(self)

        def say(self, status, body=b'', **headers):
            self.send_response(status)
            for name, value in {'Content_Type': 'text/html', 'Content_Length': str(len(body)), **headers}.items():
                self.send_header(name.replace('_', '-'), value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.daemon_threads = True
    server.port = server.server_address[1]
    server.requests = []
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
