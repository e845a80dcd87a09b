import gzip
import socket
import threading
from unittest.mock import patch

from odoo.tests import TransactionCase, tagged
from odoo.tests.common import _super_send

from ..tools import fetch as tool
from ..tools.fetch import Unfetchable, fetch, is_public
from .server import serving


@tagged('post_install', '-at_install')
class TestFetch(TransactionCase):
    @classmethod
    def _request_handler(cls, s, r, /, **kw):
        return _super_send(s, r, **kw)

    def fetch(self, server, path='/', **options):
        return fetch(f'http://127.0.0.1:{server.port}{path}', **{
            'timeout': 20, 'max_bytes': 1024**2, 'allow_private': True, **options,
        })

    def refused(self, server, path='/', **options):
        return self.refused_url(f'http://127.0.0.1:{server.port}{path}', **{'allow_private': True, **options})

    def refused_url(self, url, **options):
        with self.assertRaises(Unfetchable) as caught:
            fetch(url, **{'timeout': 20, 'max_bytes': 1024**2, **options})
        return self.env._(caught.exception.message)

    def test_page_is_fetched_with_its_headers(self):
        with serving(lambda handler: handler.say(200, b'<p>Hello', Content_Type='text/html; charset=utf-16', ETag='"1"')) as server:
            page = self.fetch(server, '/a')
        self.assertEqual((page.content, page.mimetype, page.charset, page.etag), (b'<p>Hello', 'text/html', 'utf-16', '"1"'))
        self.assertEqual(page.url, f'http://127.0.0.1:{server.port}/a')

    def test_unchanged_page_has_no_content(self):
        with serving(lambda handler: handler.say(304)) as server:
            self.assertIsNone(self.fetch(server, etag='"1"').content)
            self.assertIsNone(self.fetch(server, last_modified='Sun, 01 Nov 2026 00:00:00 GMT').content)
        self.assertEqual(server.requests[0][1]['If-None-Match'], '"1"')
        self.assertEqual(server.requests[1][1]['If-Modified-Since'], 'Sun, 01 Nov 2026 00:00:00 GMT')

    def test_only_internet_addresses_are_public(self):
        for address in (
            '127.0.0.1', '10.1.2.3', '172.16.0.1', '192.168.1.1', '169.254.169.254', '100.64.0.1', '0.0.0.0', '224.0.0.1',
            '255.255.255.255', '::1', '::', 'fe80::1%eth0', 'fc00::1', 'ff02::1', '::ffff:127.0.0.1', '64:ff9b::7f00:1',
            '2002:7f00:1::', '::ffff:10.0.0.1',
        ):
            with self.subTest(address):
                self.assertFalse(is_public(address))
        for address in ('93.184.216.34', '2606:2800:220:1::1', '::ffff:93.184.216.34'):
            with self.subTest(address):
                self.assertTrue(is_public(address))

    def test_local_addresses_are_refused(self):
        with serving(lambda handler: handler.say(200, b'secret')) as server:
            for host in ('127.0.0.1', 'localhost', '127.1', '2130706433', '[::ffff:127.0.0.1]'):
                with self.subTest(host):
                    self.assertIn("not a public address", self.refused_url(f'http://{host}:{server.port}/'))
        self.assertFalse(server.requests)

    def test_redirect_to_a_private_address_is_refused(self):
        def answer(handler):
            handler.say(302, Location=f'http://127.0.0.2:{server.port}/secret')

        with serving(answer) as server, patch.object(tool, 'is_public', lambda address: address == '127.0.0.1'):
            self.assertIn("not a public address", self.refused(server, allow_private=False))
        self.assertEqual(len(server.requests), 1)

    def test_host_is_resolved_once(self):
        with serving(lambda handler: handler.say(200, b'secret')) as server:
            answers = iter(['127.0.0.1', '127.0.0.2'])
            resolved = []

            def resolve(host, port, **_options):
                resolved.append(host)
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, '', (next(answers), port))]

            with (
                patch.object(socket, 'getaddrinfo', resolve),
                patch.object(tool, 'is_public', lambda address: address == '127.0.0.1'),
            ):
                page = fetch(f'http://rebinding.test:{server.port}/', timeout=20, max_bytes=1000)
        self.assertEqual(page.content, b'secret')
        # Only one DNS lookup: the address that was checked is the one that was connected to.
        self.assertEqual(resolved, ['rebinding.test'])
        self.assertEqual(server.requests[0][1]['Host'], f'rebinding.test:{server.port}')

    def test_host_with_a_private_address_is_refused(self):
        with (
            patch.object(socket, 'getaddrinfo', lambda host, port, **_options: [
                (socket.AF_INET, socket.SOCK_STREAM, 6, '', ('10.0.0.1', port)),
            ]),
        ):
            self.assertIn("not a public address", self.refused_url('https://inner.test/'))

    def test_too_many_redirects_are_refused(self):
        with serving(lambda handler: handler.say(302, Location='/')) as server:
            self.assertIn("more than 5 times", self.refused(server))

    def test_other_schemes_are_refused(self):
        for url in ('ftp://example.com/', 'file:///etc/passwd', '/etc/passwd', 'javascript:alert(1)', '', None):
            with self.subTest(url):
                self.assertIn("http", self.refused_url(url))
        with serving(lambda handler: handler.say(302, Location='file:///etc/passwd')) as server:
            self.assertIn("http", self.refused(server))

    def test_too_large_page_is_refused(self):
        with serving(lambda handler: handler.say(200, b'x' * 2000)) as server:
            self.assertIn("larger than", self.refused(server, max_bytes=1000))

    def test_size_is_checked_after_decompression(self):
        packed = gzip.compress(bytes(50 * 1024**2))
        with serving(lambda handler: handler.say(200, packed, Content_Encoding='gzip')) as server:
            self.assertIn("larger than", self.refused(server, max_bytes=1024**2))

    def test_other_media_types_are_refused(self):
        with serving(lambda handler: handler.say(200, b'', Content_Type='video/mp4')) as server:
            self.assertIn("video/mp4", self.refused(server))

    def test_error_status_is_reported(self):
        with serving(lambda handler: handler.say(404)) as server:
            self.assertIn("404", self.refused(server))

    def test_slow_body_ends_with_the_timeout(self):
        done = threading.Event()

        def drip(handler):
            handler.send_response(200)
            handler.send_header('Content-Type', 'text/html')
            handler.end_headers()
            while not done.wait(0.05):
                handler.wfile.write(b'x')
                handler.wfile.flush()

        with serving(drip) as server:
            try:
                self.assertIn("longer than", self.refused(server, timeout=0.5))
            finally:
                done.set()

    def test_slow_headers_end_with_the_timeout(self):
        done = threading.Event()

        def drip(handler):
            while not done.wait(0.05):
                handler.wfile.write(b'x')
                handler.wfile.flush()

        with serving(drip) as server:
            try:
                self.assertIn("longer than", self.refused(server, timeout=0.5))
            finally:
                done.set()

    def test_refused_connection_is_reported(self):
        with serving(None) as server:
            pass
        self.assertIn("refused", self.refused(server))
