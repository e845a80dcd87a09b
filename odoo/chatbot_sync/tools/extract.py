"""Extracts the visible text of files. The type of a file is detected from its content; its name only distinguishes
text formats.

Readers of a format yield paragraphs, so that a text that is too long is never in memory as a whole. They do not need
Odoo.
"""

import codecs
import contextlib
import io
import re
import unicodedata
import zipfile

import chardet

from odoo.tools import LazyTranslate
from odoo.tools.mimetypes import guess_mimetype

from . import mail, opendocument, rtf, slides, word
from .archive import Package
from .html import LABELS, declared_encoding, html_text, visible_tree
from .tables import csv_paragraphs

_lt = LazyTranslate(__name__)

PDF = 'application/pdf'
DOCX = 'application/vnd.openxmlformats-officedocument.wordprocessingml.document'
XLSX = 'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet'
PPTX = 'application/vnd.openxmlformats-officedocument.presentationml.presentation'
ODT = 'application/vnd.oasis.opendocument.text'
ODS = 'application/vnd.oasis.opendocument.spreadsheet'
ODP = 'application/vnd.oasis.opendocument.presentation'
XLS = 'application/vnd.ms-excel'
RTF = 'application/rtf'
MAIL = 'message/rfc822'
OLE = b'\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1'  # Office files before 2007, and encrypted ones since then

TEXTS = {
    'csv': 'text/csv', 'tsv': 'text/csv', 'md': 'text/markdown', 'markdown': 'text/markdown', 'htm': 'text/html',
    'html': 'text/html', 'xhtml': 'text/html', 'eml': MAIL, 'mht': MAIL, 'mhtml': MAIL,
}
# The folders in an archive that show which kind of Office file it is.
OFFICE = (('word/', DOCX), ('xl/', XLSX), ('ppt/', PPTX))
HTML = re.compile(r'\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body)\b', re.IGNORECASE | re.DOTALL)
MESSAGE = re.compile(r'(Received|Return-Path|Delivered-To|MIME-Version|Message-ID):\s', re.IGNORECASE)

# Limits: the bytes that an archive may unpack to, and the characters of a text. Longer ones are attacks rather than
# documents.
MAX_UNPACKED = 200 * 1024 * 1024
MAX_CHARACTERS = 20_000_000


class Unreadable(Exception):
    """A file has no readable text. The message is for the user, and is translated lazily."""

    def __init__(self, message):
        super().__init__(message)
        self.message = message


def sniff(data, name=None):
    """Returns the MIME type of a file, from its content and, for text formats, its name."""
    if b'%PDF-' in data[:1024]:  # Adobe's readers accept a header within the first 1024 bytes
        return PDF
    if data.startswith(b'{\\rtf'):
        return RTF
    if data.startswith(b'PK\x03\x04'):
        return _sniff_archive(data)
    if data.startswith(OLE):
        # Names of streams are in UTF-16.
        for stream, mimetype in (('EncryptedPackage', 'application/x-ole-storage'), ('Workbook', XLS), ('Book', XLS)):
            if stream.encode('utf-16-le') + b'\0\0' in data:
                return mimetype
        return 'application/x-ole-storage'
    if not _is_text(data):
        return guess_mimetype(data)
    extension = name.rpartition('.')[2].lower() if name else ''
    if extension in TEXTS:
        return TEXTS[extension]
    head = decode(data[:4096])  # the last character may be cut in two
    if HTML.match(head):
        return 'text/html'
    if MESSAGE.match(head):
        return MAIL
    return 'text/plain'


def _sniff_archive(data):
    with _unzipped(data) as archive:
        names = archive.namelist()
        if 'xl/workbook.bin' in names:
            return 'application/vnd.ms-excel.sheet.binary.macroEnabled.12'
        if '[Content_Types].xml' in names or 'word/document.xml' in names:
            for folder, mimetype in OFFICE:
                if any(name.startswith(folder) for name in names):
                    return mimetype
        if 'mimetype' in names:
            mimetype = archive.open('mimetype').read(100).decode('latin-1').strip().removesuffix('-template')
            if mimetype in READERS:
                return mimetype
    return 'application/zip'


def extract(data, name=None, mimetype=None):
    """Returns the text of a file. Raises :class:`Unreadable` where there is none.

    :param bytes data: the file
    :param str name: its name, which distinguishes CSV from Markdown
    :param str mimetype: its type, where it is known already
    """
    mimetype = mimetype or sniff(data, name)
    text = _joined(_paragraphs(data, mimetype))
    if not text:
        raise Unreadable(_lt("The file has no text. Is it scanned? Then have its characters recognized (OCR) first."))
    return text


def _paragraphs(data, mimetype):
    """Yields the paragraphs of a file. An exception of its reader means that the file is broken, unless a library is
    missing."""
    reader = READERS.get(mimetype)
    if reader is None:
        raise Unreadable(_lt(
            "A file of the type %(type)s cannot be read: PDF, DOCX, XLSX, PPTX, ODT, ODS, ODP, RTF, XLS, HTML, Markdown, CSV, EML and plain text can.",
            type=mimetype,
        ))
    try:
        yield from reader(data)
    except Unreadable:
        raise
    except ImportError as error:
        raise Unreadable(_lt(
            "Files of this kind need the Python library %(name)s, which is not installed.", name=error.name or str(error),
        )) from error
    except Exception as error:  # noqa: BLE001  the parsers raise whatever comes to them on a broken file
        raise Unreadable(_lt("The file is broken: %(reason)s", reason=str(error) or type(error).__name__)) from error


def _joined(paragraphs):
    """Joins the paragraphs, up to the limit of characters."""
    found, length = [], 0
    for text in paragraphs:
        text = text.replace('\x00', '').strip()  # Postgres does not store NUL
        length += len(text)
        if length > MAX_CHARACTERS:
            raise Unreadable(_lt("The file has more than %(most)s characters.", most=MAX_CHARACTERS))
        if text:
            found.append(text)
    return '\n\n'.join(found)


def page_text(data, url=None, charset=None):
    """Returns the title and the main text of a web page, without menus, footers and hidden text."""
    import trafilatura  # everything else works without it

    html = decode_html(data, charset)
    try:
        tree = visible_tree(html)
    except ValueError:
        tree = None
    found = None if tree is None else trafilatura.bare_extraction(
        tree, url=url, include_comments=False, favor_recall=True, with_metadata=True,
    )
    # On a page with few words no main text stands out, so all of its text is used.
    text = (found and found.text) or extract(html.encode('utf-8-sig', 'replace'), mimetype='text/html')
    return (found.title if found else None), text


def decode(data):
    """Decodes a text of unknown encoding: UTF-8 where it is valid, otherwise the encoding that its letters suggest."""
    for mark, encoding in (
        (codecs.BOM_UTF8, 'utf-8-sig'), (codecs.BOM_UTF32_LE, 'utf-32'), (codecs.BOM_UTF32_BE, 'utf-32'),
        (codecs.BOM_UTF16_LE, 'utf-16'), (codecs.BOM_UTF16_BE, 'utf-16'),
    ):
        if data.startswith(mark):
            return data.decode(encoding, errors='replace')
    if encoding := _wide_encoding(data):
        return data.decode(encoding, errors='replace')
    text = _decode_utf8(data)
    return _decode_legacy(data) if text is None else text


def _decode_utf8(data):
    """Decodes a text as UTF-8, even with a few invalid bytes; returns ``None`` where it is in another encoding."""
    text = data.decode(errors='replace')
    broken = text.count('\ufffd')
    return text if not broken or len(data) - len(text) > 8 * broken else None


def decode_html(data, charset=None):
    """Decodes a page by its byte order mark, the server's charset, its own declaration, or its letters, in this
    order.

    :param str charset: the charset that the server sends
    """
    if data.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return decode(data)
    # Each of these may be wrong. Text in another encoding is hardly ever valid UTF-8, but always valid in a one-byte
    # encoding.
    told = [_label(charset), declared_encoding(data)]
    for encoding in filter(None, told):
        if encoding not in ONE_BYTE:
            try:
                return data.decode(encoding)
            except UnicodeDecodeError:
                pass
    if _wide_encoding(data):
        return decode(data)
    text = _decode_utf8(data)
    if text is not None:
        return text
    encoding = next((name for name in told if name in ONE_BYTE), None)
    return data.decode(encoding, errors='replace') if encoding else _decode_legacy(data)


# Encodings in which every byte is a character, so that decoding never fails.
ONE_BYTE = frozenset(codecs.lookup(name).name for name in (
    *(f'iso8859-{n}' for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16)), *(f'cp125{n}' for n in range(9)), 'koi8-r', 'koi8-u',
    'ascii', 'mac_roman', 'cp874',
))


def _label(charset):
    """Returns Python's name of the encoding that a server names; ``None`` where it is missing or unknown."""
    try:
        label = (charset or '').strip().lower()
        # UTF-16 in a header can be true. In a tag it cannot: the tag could not have been read.
        return codecs.lookup(label if label.startswith('utf-16') else LABELS.get(label, label)).name if label else None
    except LookupError:
        return None


def _decode_legacy(data):
    """Decodes a text in a legacy encoding: windows-1252, unless its letters are clearly those of another alphabet."""
    text = ''
    # In windows-1252 the bytes below are no letters of an alphabet, only quotation marks and the like.
    if re.search(rb'[\xa0-\xff]', data):
        guess = chardet.detect(data[:100_000])['encoding'] or ''
        # Encodings of DOS and of old Macs are ignored: short texts look like them by chance.
        if not re.match(r'cp[4-8]\d\d$|mac', guess, re.IGNORECASE):
            with contextlib.suppress(LookupError, UnicodeDecodeError):
                text = data.decode(guess)
    letters = [c for c in text[:10_000] if c.isalpha()]
    foreign = [c for c in letters if not unicodedata.name(c, '').startswith('LATIN')]
    if len(foreign) > max(3, len(letters) * 0.3):
        return text
    return data.decode('cp1252', errors='replace')


def _wide_encoding(data):
    """Returns the kind of UTF-16 of a text without a byte order mark; ``None`` where it is not UTF-16."""
    head = data[:4096]
    head = head[:len(head) // 2 * 2]
    for encoding, zeros, others in (('utf-16-le', head[1::2], head[::2]), ('utf-16-be', head[::2], head[1::2])):
        if len(head) >= 8 and zeros.count(0) > len(zeros) * 0.4 and others.count(0) < len(others) * 0.05:
            return encoding
    return None


def _is_text(data):
    head = data[:4096]
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)) or _wide_encoding(data):
        return True
    return not re.search(rb'[\x00-\x08\x0e-\x1a\x1c-\x1f]', head)


def _unzipped(data):
    """Opens an archive. Raises an error where it would unpack to more than the limit."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise Unreadable(_lt("The file is broken: %(reason)s", reason=str(error))) from error
    if sum(member.file_size for member in archive.infolist()) > MAX_UNPACKED:
        raise Unreadable(_lt("The file unpacks to more than %(most)s MB.", most=MAX_UNPACKED // 1024**2))
    return archive


def _pdf(data):
    import pypdf  # everything else works without it

    reader = pypdf.PdfReader(io.BytesIO(data))
    # A file may be encrypted with an empty password, only to restrict printing or copying.
    if reader.is_encrypted and not reader.decrypt(''):
        raise _encrypted()
    for sheet in reader.pages:
        yield sheet.extract_text()


def _encrypted():
    return Unreadable(_lt("The file is encrypted: save it without a password first."))


def _office(read):
    """Returns a reader of Office files."""
    def reader(data):
        with _unzipped(data) as archive:
            yield from read(Package(archive))
    return reader


def _read_embedded(data, name):
    """Returns the text of a file that is embedded in a document; ``''`` for types that are not read."""
    mimetype = sniff(data, name)
    return _joined(_paragraphs(data, mimetype)) if mimetype in ('text/html', 'text/plain', RTF, MAIL) else ''


def _open_document(data):
    with _unzipped(data) as archive:
        if b':encryption-data' in archive.read('META-INF/manifest.xml'):
            raise _encrypted()
        yield from opendocument.paragraphs(archive)


def _xlsx(package):
    from . import sheets  # everything else works without openpyxl

    return sheets.paragraphs(package)


def _xls(data):
    from . import sheets  # for the same reason

    try:
        yield from sheets.xls_paragraphs(data)
    except ImportError:
        raise
    except Exception as error:
        if 'encrypted' in str(error).lower():
            raise _encrypted() from error
        raise


def _ole(data):
    if 'EncryptedPackage'.encode('utf-16-le') in data:
        raise _encrypted()
    raise Unreadable(_lt("The file is encrypted, or of an Office before 2007: save it as DOCX without a password first."))
    yield


def _plain(data):
    yield decode(data)


READERS = {
    PDF: _pdf,
    DOCX: _office(lambda package: word.paragraphs(package, _read_embedded)),
    XLSX: _office(_xlsx),
    PPTX: _office(slides.paragraphs),
    ODT: _open_document,
    ODS: _open_document,
    ODP: _open_document,
    RTF: rtf.paragraphs,
    XLS: _xls,
    MAIL: lambda data: mail.paragraphs(data, lambda content, charset: html_text(decode_html(content, charset))),
    'application/x-ole-storage': _ole,
    'text/html': lambda data: [html_text(decode_html(data))],
    'text/markdown': _plain,
    'text/csv': lambda data: csv_paragraphs(decode(data).replace('\x00', '')),
    'text/plain': _plain,
}
