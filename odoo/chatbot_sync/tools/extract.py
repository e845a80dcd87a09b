"""Text out of files, as a person sees it. What a file is, its bytes say; its name only tells kinds of text apart.

A reader of a format yields paragraphs, so that what is too long is never held as a whole. None of them needs Odoo.
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
OLE = b'\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1'  # Office files before 2007, and encrypted ones since

TEXTS = {
    'csv': 'text/csv', 'tsv': 'text/csv', 'md': 'text/markdown', 'markdown': 'text/markdown', 'htm': 'text/html',
    'html': 'text/html', 'xhtml': 'text/html', 'eml': MAIL, 'mht': MAIL, 'mhtml': MAIL,
}
# Parts that make an archive an Office file.
OFFICE = (('word/', DOCX), ('xl/', XLSX), ('ppt/', PPTX))
HTML = re.compile(r'\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body)\b', re.IGNORECASE | re.DOTALL)
MESSAGE = re.compile(r'(Received|Return-Path|Delivered-To|MIME-Version|Message-ID):\s', re.IGNORECASE)

# Compressed files may become so many bytes, and texts so many characters: what is longer is somebody's trick.
MAX_UNPACKED = 200 * 1024 * 1024
MAX_CHARACTERS = 20_000_000


class Unreadable(Exception):
    """Why a file has no text, for whoever gave it. The message is lazily translated."""

    def __init__(self, message):
        super().__init__(message)
        self.message = message


def sniff(data, name=None):
    """What a file is, as a MIME type."""
    if b'%PDF-' in data[:1024]:  # so far in it may begin, says Adobe
        return PDF
    if data.startswith(b'{\\rtf'):
        return RTF
    if data.startswith(b'PK\x03\x04'):
        return _sniff_archive(data)
    if data.startswith(OLE):
        # The names in such a file are in UTF-16.
        for stream, mimetype in (('EncryptedPackage', 'application/x-ole-storage'), ('Workbook', XLS), ('Book', XLS)):
            if stream.encode('utf-16-le') + b'\0\0' in data:
                return mimetype
        return 'application/x-ole-storage'
    if not _is_text(data):
        return guess_mimetype(data)
    extension = name.rpartition('.')[2].lower() if name else ''
    if extension in TEXTS:
        return TEXTS[extension]
    head = decode(data[:4096])  # whose last character may be cut in two
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
    """The text of a file. Raises :class:`Unreadable` where there is none to be had.

    :param bytes data: the file
    :param str name: its name, which tells CSV from Markdown
    :param str mimetype: what it is, where that is known already
    """
    mimetype = mimetype or sniff(data, name)
    text = _joined(_paragraphs(data, mimetype))
    if not text:
        raise Unreadable(_lt("The file has no text. Is it scanned? Then have its characters recognized (OCR) first."))
    return text


def _paragraphs(data, mimetype):
    """Yields the paragraphs of a file. Whatever its reader raises is that the file is broken."""
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
    """Puts paragraphs together, as long as they are no longer than a text may be."""
    found, length = [], 0
    for text in paragraphs:
        text = text.replace('\x00', '').strip()  # Postgres stores no NUL
        length += len(text)
        if length > MAX_CHARACTERS:
            raise Unreadable(_lt("The file has more than %(most)s characters.", most=MAX_CHARACTERS))
        if text:
            found.append(text)
    return '\n\n'.join(found)


def page_text(data, url=None, charset=None):
    """Title and text of a web page: what is to be read in it, without menus and footers, and without what is hidden."""
    import trafilatura  # noqa: PLC0415  the rest works without it

    html = decode_html(data, charset)
    try:
        tree = visible_tree(html)
    except ValueError:
        tree = None
    found = None if tree is None else trafilatura.bare_extraction(
        tree, url=url, include_comments=False, favor_recall=True, with_metadata=True,
    )
    # A page of few words has nothing that stands out: all of it, then.
    text = (found and found.text) or extract(html.encode('utf-8-sig', 'replace'), mimetype='text/html')
    return (found.title if found else None), text


def decode(data):
    """The characters of a text whose encoding nobody told: UTF-8 where it is valid, else what its letters look like."""
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
    """The characters of a text in UTF-8, be it that a few bytes are broken; ``None`` where it is in something else."""
    text = data.decode(errors='replace')
    broken = text.count('\ufffd')
    return text if not broken or len(data) - len(text) > 8 * broken else None


def decode_html(data, charset=None):
    """The characters of a page: as its mark says, its server, the page itself, or its letters.

    :param str charset: what the server says
    """
    if data.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return decode(data)
    # Each is wrong at times. UTF-8 is hardly ever valid by chance, what is in one byte a character always is.
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


# Encodings of which all bytes are characters, so that no text shows that it is in another.
ONE_BYTE = frozenset(codecs.lookup(name).name for name in (
    *(f'iso8859-{n}' for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16)), *(f'cp125{n}' for n in range(9)), 'koi8-r', 'koi8-u',
    'ascii', 'mac_roman', 'cp874',
))


def _label(charset):
    """Returns what Python calls the encoding that a server names, ``None`` where it names none that there is."""
    try:
        label = (charset or '').strip().lower()
        # A server that says so may well mean it, unlike a tag.
        return codecs.lookup(label if label.startswith('utf-16') else LABELS.get(label, label)).name if label else None
    except LookupError:
        return None


def _decode_legacy(data):
    """The characters of a text in an old encoding: windows-1252, unless it is clearly in another alphabet."""
    text = ''
    # Below are no letters of any alphabet in windows-1252, only quotation marks and the like.
    if re.search(rb'[\xa0-\xff]', data):
        guess = chardet.detect(data[:100_000])['encoding'] or ''
        # Not those of DOS and of old Macs, which a short text looks like by chance.
        if not re.match(r'cp[4-8]\d\d$|mac', guess, re.IGNORECASE):
            with contextlib.suppress(LookupError, UnicodeDecodeError):
                text = data.decode(guess)
    letters = [c for c in text[:10_000] if c.isalpha()]
    foreign = [c for c in letters if not unicodedata.name(c, '').startswith('LATIN')]
    if len(foreign) > max(3, len(letters) * 0.3):
        return text
    return data.decode('cp1252', errors='replace')


def _wide_encoding(data):
    """Returns the kind of UTF-16 that a text without a mark is in, ``None`` where it is in none."""
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
    """An archive that does not swell beyond measure."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise Unreadable(_lt("The file is broken: %(reason)s", reason=str(error))) from error
    if sum(member.file_size for member in archive.infolist()) > MAX_UNPACKED:
        raise Unreadable(_lt("The file unpacks to more than %(most)s MB.", most=MAX_UNPACKED // 1024**2))
    return archive


def _pdf(data):
    import pypdf  # noqa: PLC0415  the rest works without it

    reader = pypdf.PdfReader(io.BytesIO(data))
    # Some are encrypted with no password at all, only to say what may be done with them.
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
    """The text of a file that a document has whole within it."""
    mimetype = sniff(data, name)
    return _joined(_paragraphs(data, mimetype)) if mimetype in ('text/html', 'text/plain', RTF, MAIL) else ''


def _open_document(data):
    with _unzipped(data) as archive:
        if b':encryption-data' in archive.read('META-INF/manifest.xml'):
            raise _encrypted()
        yield from opendocument.paragraphs(archive)


def _xlsx(package):
    from . import sheets  # noqa: PLC0415  the rest works without openpyxl

    return sheets.paragraphs(package)


def _xls(data):
    from . import sheets  # noqa: PLC0415  the same

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
