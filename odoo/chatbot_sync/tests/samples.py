"""Files as people upload them, made here."""

import io
import zipfile

import docx
import pypdf

from ..tools.extract import ODT


def pdf(*lines):
    """A PDF with a page for each line, of the fewest objects that will do."""
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


def swelling_zip(name, size):
    """An archive of little bytes whose member is large."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr(name, bytes(size))
    return file.getvalue()
