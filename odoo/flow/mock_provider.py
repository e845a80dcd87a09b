"""A mock provider of embeddings."""

import collections
import http.server
import json
import re
import threading
import zlib

DIMENSIONS = 64


class Provider(http.server.ThreadingHTTPServer):
    """Implements OpenAI's protocol. Texts that share words have similar vectors. ``fault`` is a status that is sent
    instead."""

    daemon_threads = True

    def __init__(self):
        super().__init__(('127.0.0.1', 0), ProviderHandler)
        self.fault = None
        self.requests = []
        threading.Thread(target=self.serve_forever, kwargs={'poll_interval': 0.05}, daemon=True).start()

    @property
    def url(self):
        return f'http://127.0.0.1:{self.server_address[1]}/v1'


class ProviderHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
        self.server.requests.append(asked['input'])
        if self.server.fault:
            self.answer(self.server.fault, {'error': {'message': f"the mock says {self.server.fault}"}})
        else:
            data = [{'object': 'embedding', 'index': at, 'embedding': vector(text)} for at, text in enumerate(asked['input'])]
            self.answer(200, {'object': 'list', 'data': data, 'model': asked['model'], 'usage': {'prompt_tokens': 1, 'total_tokens': 1}})

    def answer(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(body)))
        if status == 429:
            self.send_header('Retry-After', '1')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def vector(text):
    counts = collections.Counter(zlib.crc32(word.encode()) % DIMENSIONS for word in re.findall(r'\w+', text.lower()))
    return [1e-3 + counts[place] for place in range(DIMENSIONS)]
