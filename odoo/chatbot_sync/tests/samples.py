"""Sample files, built by the tests themselves."""

import io
import zipfile

import docx
import openpyxl
import pptx
import pypdf
import xlwt

from ..tools.extract import ODT


def pdf(*lines):
    """Returns a PDF with one page for each line, built of as few objects as possible."""
    objects = [
        b'<< /Type /Catalog /Pages 2 0 R >>',
        b'<< /Type /Pages /Count %d /Kids [%s] >>' % (len(lines), b' '.join(b'%d 0 R' % (4 + 2 * at) for at in range(len(lines)))),
        b'<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>',
    ]
    for line in lines:
        drawn = b'BT /F1 12 Tf 72 720 Td (%s) Tj ET' % line.encode('latin-1')
        objects.append(
            b'<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >> /Contents %d 0 R >>'
            % (len(objects) + 2)
        )
        objects.append(b'<< /Length %d >>\nstream\n%s\nendstream' % (len(drawn), drawn))
    file = bytearray(b'%PDF-1.4\n')
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(file))
        file += b'%d 0 obj\n%s\nendobj\n' % (number, body)
    table = len(file)
    file += b'xref\n0 %d\n0000000000 65535 f \n' % (len(objects) + 1)
    file += b''.join(b'%010d 00000 n \n' % place for place in places)
    file += b'trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n' % (len(objects) + 1, table)
    return bytes(file)


def encrypted_pdf(password):
    writer = pypdf.PdfWriter(clone_from=pypdf.PdfReader(io.BytesIO(pdf("A secret."))))
    writer.encrypt(password, owner_password='owner', algorithm='RC4-128')
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


def word(*paragraphs, table=()):
    document = docx.Document()
    for paragraph in paragraphs:
        document.add_paragraph(paragraph)
    if table:
        cells = document.add_table(len(table), len(table[0]))
        for row, texts in zip(cells.rows, table):
            for cell, text in zip(row.cells, texts):
                cell.text = text
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def odt(body, manifest='<manifest/>'):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr('mimetype', ODT, zipfile.ZIP_STORED)
        zipped.writestr('META-INF/manifest.xml', manifest)
        zipped.writestr('content.xml', (
            '<!DOCTYPE x [<!ENTITY file SYSTEM "file:///etc/hostname">]>'
            '<office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"'
            ' xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0">'
            f'<office:body><office:text>{body}</office:text></office:body></office:document-content>'
        ))
    return file.getvalue()


def zip_bomb(name, size):
    """Returns a small archive that unpacks to a large file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr(name, bytes(size))
    return file.getvalue()


OFFICE = 'http://schemas.openxmlformats.org/officeDocument/2006/relationships'
WORD = (
    'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    f' xmlns:r="{OFFICE}"'
    ' xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
    ' xmlns:wp="http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing"'
    ' xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape"'
    ' xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
    ' xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart"'
    ' xmlns:v="urn:schemas-microsoft-com:vml"'
    ' xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
)


def paragraph(inner):
    return f'<w:p>{inner}</w:p>'


def run(text, properties=''):
    return f'<w:r><w:rPr>{properties}</w:rPr><w:t xml:space="preserve">{text}</w:t></w:r>'


def package(parts, relations, main):
    """Returns an Office file of these parts, and their relations: (kind, name of the other part) by id."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr('[Content_Types].xml', '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>')
        for name, of in {'': {'rId1': ('officeDocument', main)}, **relations}.items():
            folder, _slash, base = name.rpartition('/')
            zipped.writestr(f'{folder}/_rels/{base}.rels'.lstrip('/'), '<Relationships>' + ''.join(
                f'<Relationship Id="{key}" Type="{OFFICE}/{kind}" Target="/{target}"/>' for key, (kind, target) in of.items()
            ) + '</Relationships>')
        for name, content in parts.items():
            zipped.writestr(name, content)
    return file.getvalue()


def word_xml(body, **parts):
    """Returns a DOCX with this body, and with other parts that it has relations to."""
    kinds = {name: name.rstrip('0123456789') for name in parts}
    return package(
        {'word/document.xml': f'<w:document {WORD}><w:body>{body}</w:body></w:document>'}
        | {f'word/{name}.xml': content.replace('NAMESPACES', WORD) for name, content in parts.items()},
        {'word/document.xml': {name: (kinds[name], f'word/{name}.xml') for name in parts}},
        'word/document.xml',
    )


def workbook(fill):
    """Returns an XLSX filled by ``fill``, which gets a workbook of openpyxl."""
    book = openpyxl.Workbook()
    fill(book)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def old_workbook(fill):
    """Returns an XLS filled by ``fill``, which gets a workbook of xlwt."""
    book = xlwt.Workbook()
    fill(book)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def presentation(fill):
    """Returns a PPTX filled by ``fill``, which gets a presentation of python-pptx."""
    slides = pptx.Presentation()
    fill(slides)
    file = io.BytesIO()
    slides.save(file)
    return file.getvalue()


ODF = ' '.join(f'xmlns:{short}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for short, name in (
    ('office', 'office'), ('text', 'text'), ('table', 'table'), ('draw', 'drawing'), ('style', 'style'), ('presentation', 'presentation'),
)) + ' xmlns:dc="http://purl.org/dc/elements/1.1/"'


def open_document(kind, body, styles='', masters=''):
    """Returns an OpenDocument file of a kind: text, spreadsheet or presentation."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr('mimetype', f'application/vnd.oasis.opendocument.{kind}', zipfile.ZIP_STORED)
        zipped.writestr('META-INF/manifest.xml', '<manifest/>')
        zipped.writestr('content.xml', (
            f'<office:document-content {ODF}><office:automatic-styles>{styles}</office:automatic-styles>'
            f'<office:body><office:{kind}>{body}</office:{kind}></office:body></office:document-content>'
        ))
        zipped.writestr('styles.xml', (
            f'<office:document-styles {ODF}><office:master-styles>{masters}</office:master-styles></office:document-styles>'
        ))
    return file.getvalue()
