"""Text out of files. What a file is, its bytes say; its name only tells kinds of text apart."""

import codecs
import csv
import io
import re
import zipfile

import chardet
import docx
import pypdf
import trafilatura
from lxml import etree, html

from odoo.tools import LazyTranslate
from odoo.tools.mimetypes import guess_mimetype

_lt = LazyTranslate(__name__)

PDF = 'application/pdf'
DOCX = 'application/vnd.openxmlformats-officedocument.wordprocessingml.document'
ODT = 'application/vnd.oasis.opendocument.text'
OLE = b'\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1'  # Office files before 2007, and encrypted ones since

TEXTS = {'csv': 'text/csv', 'md': 'text/markdown', 'markdown': 'text/markdown', 'htm': 'text/html', 'html': 'text/html'}

# Compressed files may become so many bytes, and texts so many characters: what is longer is somebody's trick.
MAX_UNPACKED = 200 * 1024 * 1024
MAX_CHARACTERS = 20_000_000

ODF_TEXT = '{urn:oasis:names:tc:opendocument:xmlns:text:1.0}'
ODF_OFFICE = '{urn:oasis:names:tc:opendocument:xmlns:office:1.0}'


class Unreadable(Exception):
    """Why a file has no text, for whoever gave it. The message is lazily translated."""

    def __init__(self, message):
        super().__init__(message)
        self.message = message


def sniff(data, name=None):
    """What a file is, as a MIME type."""
    if b'%PDF-' in data[:1024]:  # so far in it may begin, says Adobe
        return PDF
    if data.startswith(b'PK\x03\x04'):
        with _unzipped(data) as archive:
            names = archive.namelist()
            if 'word/document.xml' in names:
                return DOCX
            if 'mimetype' in names and archive.read('mimetype').strip() == ODT.encode():
                return ODT
        return 'application/zip'
    if data.startswith(OLE):
        return 'application/x-ole-storage'
    if not _is_text(data):
        return guess_mimetype(data)
    extension = name.rpartition('.')[2].lower() if name else ''
    if extension in TEXTS:
        return TEXTS[extension]
    if re.match(rb'\s*(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body)\b', data[:4096], re.IGNORECASE | re.DOTALL):
        return 'text/html'
    return 'text/plain'


def extract(data, name=None, mimetype=None):
    """The text of a file. Raises :class:`Unreadable` where there is none to be had.

    :param bytes data: the file
    :param str name: its name, which tells CSV from Markdown
    :param str mimetype: what it is, where that is known already
    """
    mimetype = mimetype or sniff(data, name)
    reader = READERS.get(mimetype)
    if reader is None:
        raise Unreadable(_lt(
            "A file of the type %(type)s cannot be read: PDF, DOCX, ODT, HTML, Markdown, CSV and plain text can.",
            type=mimetype,
        ))
    try:
        text = reader(data)
    except Unreadable:
        raise
    except Exception as error:  # noqa: BLE001  the parsers raise whatever comes to them on a broken file
        raise Unreadable(_lt("The file is broken: %(reason)s", reason=str(error) or type(error).__name__)) from error
    text = text.replace('\x00', '').strip()  # Postgres stores no NUL
    if len(text) > MAX_CHARACTERS:
        raise Unreadable(_lt("The file has more than %(most)s characters.", most=MAX_CHARACTERS))
    if not text:
        raise Unreadable(_lt("The file has no text. Is it scanned? Then have its characters recognized (OCR) first."))
    return text


def page_text(data, url=None, charset=None):
    """Title and text of a web page: what is to be read in it, without menus and footers."""
    try:
        data = data.decode(charset) if charset else data
    except (LookupError, UnicodeDecodeError):
        pass  # what the server says is wrong: what the page says may be right
    found = trafilatura.bare_extraction(data, url=url, include_comments=False, favor_recall=True, with_metadata=True)
    # A page of few words has nothing that stands out: all of it, then.
    text = found and found.text or extract(data, mimetype='text/html')
    return (found.title if found else None), text


def decode(data):
    """The characters of a text whose encoding nobody told."""
    for mark, encoding in (
        (codecs.BOM_UTF8, 'utf-8-sig'), (codecs.BOM_UTF32_LE, 'utf-32'), (codecs.BOM_UTF32_BE, 'utf-32'),
        (codecs.BOM_UTF16_LE, 'utf-16'), (codecs.BOM_UTF16_BE, 'utf-16'),
    ):
        if data.startswith(mark):
            return data.decode(encoding, errors='replace')
    try:
        return data.decode()
    except UnicodeDecodeError:
        guess = chardet.detect(data[:100_000])['encoding'] or 'cp1252'
        return data.decode(guess, errors='replace')


def _is_text(data):
    head = data[:4096]
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)):
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
    reader = pypdf.PdfReader(io.BytesIO(data))
    # Some are encrypted with no password at all, only to say what may be done with them.
    if reader.is_encrypted and not reader.decrypt(''):
        raise Unreadable(_lt("The file is encrypted: save it without a password first."))
    pages, length = [], 0
    for sheet in reader.pages:
        pages.append(sheet.extract_text())
        length += len(pages[-1])
        if length > MAX_CHARACTERS:
            break
    return '\n\n'.join(pages)


def _docx(data):
    _unzipped(data).close()
    document = docx.Document(io.BytesIO(data))

    def lines(container):
        for block in container.iter_inner_content():
            if isinstance(block, docx.table.Table):
                for row in block.rows:
                    cells = {cell._tc: cell for cell in row.cells}.values()  # one that spans columns comes once for each
                    yield '\t'.join(' '.join(lines(cell)) for cell in cells)
            else:
                yield block.text

    return '\n\n'.join(line for line in lines(document) if line.strip())


def _odt(data):
    with _unzipped(data) as archive:
        if b':encryption-data' in archive.read('META-INF/manifest.xml'):
            raise Unreadable(_lt("The file is encrypted: save it without a password first."))
        tree = etree.fromstring(archive.read('content.xml'), _xml_parser())

    def text(node):
        if node.tag == ODF_TEXT + 's':
            yield ' ' * min(int(node.get(ODF_TEXT + 'c', 1)), 1000)
        elif node.tag == ODF_TEXT + 'tab':
            yield '\t'
        elif node.tag == ODF_TEXT + 'line-break':
            yield '\n'
        yield node.text or ''
        for child in node:
            # Comments of reviewers, and what they deleted, are no text.
            if isinstance(child.tag, str) and child.tag not in (ODF_OFFICE + 'annotation', ODF_TEXT + 'tracked-changes'):
                yield from text(child)
            yield child.tail or ''

    body = tree.find(f'{ODF_OFFICE}body/{ODF_OFFICE}text')
    if body is None:
        raise Unreadable(_lt("The file is broken: %(reason)s", reason="no office:text"))
    paragraphs = (''.join(text(node)) for node in body.iter(ODF_TEXT + 'p', ODF_TEXT + 'h'))
    return '\n\n'.join(paragraph for paragraph in paragraphs if paragraph.strip())


def _xml_parser():
    return etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)


BLOCKS = (
    'address article aside blockquote br caption dd details div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 h5'
    ' h6 header hr li main nav ol option p pre section summary table tbody td tfoot th thead title tr ul'
).split()


def _html(data):
    """All that a browser would show."""
    text = data.lstrip(codecs.BOM_UTF8) if isinstance(data, bytes) else data
    tree = html.document_fromstring(text, parser=html.HTMLParser(no_network=True, huge_tree=False))
    etree.strip_elements(tree, 'script', 'style', 'template', 'noscript', 'svg', etree.Comment, with_tail=False)
    for node in tree.iter(*BLOCKS):
        node.text = '\n' + (node.text or '')
        node.tail = '\n' + (node.tail or '')
    lines = (re.sub(r'[ \t\r\f\v\xa0]+', ' ', line).strip() for line in tree.text_content().split('\n'))
    return re.sub(r'\n{3,}', '\n\n', '\n'.join(lines))


def _csv(data):
    """A paragraph for each row, each value with the name of its column, so that a row is understood by itself."""
    text = decode(data)
    try:
        dialect = csv.Sniffer().sniff(text[:20_000], delimiters=',;\t|')
    except csv.Error:
        dialect = csv.excel
    rows = [row for row in csv.reader(io.StringIO(text), dialect) if any(cell.strip() for cell in row)]
    if len(rows) < 2:
        return text
    names = [name.strip() for name in rows[0]]
    return '\n\n'.join(
        '\n'.join(
            f'{names[at]}: {cell.strip()}' if at < len(names) and names[at] else cell.strip()
            for at, cell in enumerate(row) if cell.strip()
        )
        for row in rows[1:]
    )


def _ole(_data):
    raise Unreadable(_lt("The file is encrypted, or of an Office before 2007: save it as DOCX without a password first."))


READERS = {
    PDF: _pdf,
    DOCX: _docx,
    ODT: _odt,
    'application/x-ole-storage': _ole,
    'text/html': _html,
    'text/markdown': decode,
    'text/csv': _csv,
    'text/plain': decode,
}
