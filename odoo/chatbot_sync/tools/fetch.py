"""Fetches web pages whose addresses users enter: with limits, and from public addresses only."""

import contextlib
import email.message
import ipaddress
import re
import socket
import threading
import time

import requests
import urllib3
from requests.adapters import HTTPAdapter

from odoo.tools import LazyTranslate

_lt = LazyTranslate(__name__)

MAX_REDIRECTS = 5
ACCEPTED = re.compile(
    r'text/(html|plain|markdown|csv|tab-separated-values|rtf|x-markdown)'
    r'|application/(xhtml\+xml|pdf|rtf|vnd\.ms-excel|vnd\.(openxmlformats|oasis)[\w.-]+)'
)


class Unfetchable(Exception):
    """A page was not fetched. The message is for the user, and is translated lazily."""

    def __init__(self, message):
        super().__init__(message)
        self.message = message


class Page:
    """A response.

    :ivar bytes content: the body; ``None`` where the page has not changed
    :ivar str url: the address after redirects
    :ivar str charset: the charset that the server sends; ``None`` where it sends none
    """

    def __init__(self, response, content):
        self.content = content
        self.url = response.url
        kind = email.message.Message()
        kind['Content-Type'] = response.headers.get('Content-Type', 'text/html')
        self.mimetype = kind.get_content_type()
        self.charset = kind.get_content_charset()
        self.etag = response.headers.get('ETag')
        self.last_modified = response.headers.get('Last-Modified')


def fetch(url, *, timeout, max_bytes, allow_private=False, etag=None, last_modified=None):
    """Fetches a page.

    :param float timeout: the longest time for everything, redirects included, in seconds
    :param int max_bytes: the largest size of the body, in bytes after decompression
    :param bool allow_private: whether addresses that are not public are allowed
    :param str etag: the ETag of the known version of the page
    :param str last_modified: the Last-Modified of the known version of the page
    """
    if not re.match(r'https?://', url or '', re.IGNORECASE):
        raise Unfetchable(_lt("Only addresses that begin with http:// or https:// are fetched."))
    headers = {'User-Agent': 'Mozilla/5.0 (compatible; chatbot_sync)', 'Accept': 'text/html,*/*;q=0.5'}
    if etag:
        headers['If-None-Match'] = etag
    elif last_modified:
        headers['If-Modified-Since'] = last_modified
    guard = Guard(timeout, allow_private)
    try:
        with requests.Session() as session, guard:
            session.trust_env = False  # no proxy: behind one the address of the server could not be checked
            session.max_redirects = MAX_REDIRECTS
            for scheme in ('http://', 'https://'):
                session.mount(scheme, GuardedAdapter(guard))
            with session.get(url, headers=headers, stream=True, timeout=timeout) as response:
                return _read(response, guard, max_bytes)
    except requests.exceptions.InvalidSchema as error:  # raised by a redirect
        raise Unfetchable(_lt("Only addresses that begin with http:// or https:// are fetched.")) from error
    except requests.TooManyRedirects as error:
        raise Unfetchable(_lt("The page redirects more than %(most)s times.", most=MAX_REDIRECTS)) from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        if guard.over:
            raise Unfetchable(_lt("The page took longer than %(most)s seconds.", most=timeout)) from error
        raise Unfetchable(_lt("The page cannot be fetched: %(reason)s", reason=_innermost_message(error))) from error


def _read(response, guard, max_bytes):
    if response.status_code == 304:
        return Page(response, None)
    if response.status_code >= 400:
        raise Unfetchable(_lt(
            "The server answered %(status)s %(reason)s.", status=response.status_code, reason=response.reason or '',
        ))
    page = Page(response, b'')
    if not ACCEPTED.fullmatch(page.mimetype):
        raise Unfetchable(_lt("The address is no page but %(type)s.", type=page.mimetype))
    body = bytearray()
    for piece in response.iter_content(16 * 1024):
        body += piece
        if len(body) > max_bytes:
            raise Unfetchable(_lt("The page is larger than %(most)s MB.", most=round(max_bytes / 1024**2, 1)))
    if guard.over:
        raise Unfetchable(_lt("The page took longer than %(most)s seconds.", most=guard.timeout))
    page.content = bytes(body)
    return page


class Guard:
    """Checks addresses before they are connected to, and closes all sockets at the deadline."""

    def __init__(self, timeout, allow_private):
        self.timeout = timeout
        self.allow_private = allow_private
        self.over = False
        self._deadline = time.monotonic() + timeout
        self._sockets = []
        # Socket timeouts apply to each wait, which a server that sends byte after byte never exceeds. This timer
        # limits the whole.
        self._timer = threading.Timer(timeout, self._end)
        self._timer.daemon = True

    def __enter__(self):
        self._timer.start()
        return self

    def __exit__(self, *_exception):
        self._timer.cancel()
        self._timer.join()
        for sock in self._sockets:
            sock.close()

    def _end(self):
        self.over = True
        for sock in self._sockets:
            with contextlib.suppress(OSError):  # already closed
                sock.shutdown(socket.SHUT_RDWR)

    def connect(self, connection):
        """Connects to the same address that was checked, so that a second DNS answer cannot be another one."""
        host = connection.host.strip('[]')
        error = None
        for family, kind, protocol, _name, address in socket.getaddrinfo(host, connection.port, type=socket.SOCK_STREAM):
            if not self.allow_private and not is_public(address[0]):
                raise Unfetchable(_lt("%(host)s is not a public address.", host=host))
            sock = socket.socket(family, kind, protocol)
            sock.settimeout(max(self._deadline - time.monotonic(), 0.001))
            try:
                sock.connect(address)
                # A duplicate, since the original socket is passed on to TLS and to the response.
                self._sockets.append(sock.dup())
                return sock
            except OSError as failure:
                sock.close()
                error = failure
        raise error or OSError(f'{host} has no address')


def is_public(address):
    """Whether an address is a public one, also where it is an IPv4 address embedded in an IPv6 one."""
    address = ipaddress.ip_address(address.partition('%')[0])
    if address.version == 6:
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if inner is None and address in ipaddress.ip_network('64:ff9b::/96'):
            inner = ipaddress.ip_address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return address.is_global and not address.is_multicast


class GuardedAdapter(HTTPAdapter):
    """Adapter of requests whose connections are made by the guard."""

    def __init__(self, guard):
        self._guard = guard
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args, **kwargs):
        super().init_poolmanager(*args, **kwargs)
        guard = self._guard

        class Connection(urllib3.connection.HTTPConnection):
            def _new_conn(self):
                return guard.connect(self)

        class SecureConnection(urllib3.connection.HTTPSConnection):
            def _new_conn(self):
                return guard.connect(self)

        class Pool(urllib3.HTTPConnectionPool):
            ConnectionCls = Connection

        class SecurePool(urllib3.HTTPSConnectionPool):
            ConnectionCls = SecureConnection

        self.poolmanager.pool_classes_by_scheme = {'http': Pool, 'https': SecurePool}


def _causes(error):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _innermost_message(error):
    """Returns the message of the innermost exception."""
    *_outer, root = _causes(error)
    return getattr(root, 'strerror', None) or str(root) or type(root).__name__
