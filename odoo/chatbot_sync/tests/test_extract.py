from unittest.mock import patch

from odoo.tests import TransactionCase, tagged

from ..tools import extract as tool
from ..tools.extract import Unreadable, extract, page_text, sniff
from . import samples


@tagged('post_install', '-at_install')
class TestExtract(TransactionCase):
    def refused(self, data, name=None):
        with self.assertRaises(Unreadable) as caught:
            extract(data, name)
        return self.env._(caught.exception.message)

    def test_file_type_is_detected_from_its_content(self):
        self.assertEqual(sniff(samples.pdf("Hello"), 'letter.txt'), 'application/pdf')
        self.assertEqual(sniff(samples.word("Hello"), 'letter.pdf'), tool.DOCX)
        self.assertEqual(sniff(samples.odt('<text:p>Hello</text:p>'), 'letter.docx'), tool.ODT)
        self.assertEqual(sniff(b'\n<!-- x -->\n<!DOCTYPE html><p>Hello'), 'text/html')
        self.assertEqual(sniff(b'# Hello', 'README.MD'), 'text/markdown')
        self.assertEqual(sniff(b'a,b', 'table.csv'), 'text/csv')
        self.assertEqual(sniff("Grüße".encode('utf-16')), 'text/plain')

    def test_all_pages_of_a_pdf_are_read(self):
        self.assertEqual(extract(samples.pdf("First page.", "Second page.")), "First page.\n\nSecond page.")

    def test_encrypted_pdf_is_reported(self):
        self.assertIn("encrypted", self.refused(samples.encrypted_pdf('secret')))

    def test_pdf_encrypted_without_password_is_read(self):
        self.assertEqual(extract(samples.encrypted_pdf('')), "A secret.")

    def test_broken_files_are_reported(self):
        for whole in (samples.pdf("Hello"), samples.word("Hello"), samples.odt('<text:p>Hello</text:p>')):
            with self.subTest(whole[:8]):
                self.assertIn("broken", self.refused(whole[:len(whole) // 3]))

    def test_tables_of_a_docx_are_read(self):
        file = samples.word("Before.", table=[["Size", "Price"], ["Small", "3"]])
        self.assertEqual(extract(file), "Before.\n\nSize\tPrice\n\nSmall\t3")

    def test_spaces_and_tabs_of_an_odt_are_kept(self):
        body = '<text:h>Title</text:h><text:list><text:list-item><text:p>a<text:s text:c="2"/>b<text:tab/>c<text:line-break/>d</text:p></text:list-item></text:list>'
        self.assertEqual(extract(samples.odt(body)), "Title\n\na  b\tc\nd")

    def test_entities_of_an_odt_are_not_expanded(self):
        with open('/etc/hostname') as file:
            secret = file.read().strip()
        self.assertNotIn(secret, extract(samples.odt('<text:p>Hello &file; world</text:p>')))

    def test_encrypted_odt_is_reported(self):
        file = samples.odt('<text:p>Hello</text:p>', '<manifest:encryption-data/>')
        self.assertIn("encrypted", self.refused(file))

    def test_old_or_encrypted_office_files_get_advice(self):
        self.assertIn("save it as DOCX", self.refused(tool.OLE + bytes(1000)))

    def test_archive_that_unpacks_to_too_much_is_refused(self):
        with patch.object(tool, 'MAX_UNPACKED', 1024**2):
            self.assertIn("unpacks to more", self.refused(samples.zip_bomb('word/document.xml', 2 * 1024**2)))

    def test_too_long_text_is_refused(self):
        with patch.object(tool, 'MAX_CHARACTERS', 10):
            self.assertIn("more than 10", self.refused(b'01234567890'))

    def test_pictures_and_archives_are_refused(self):
        self.assertIn("image/png", self.refused(b'\x89PNG\r\n\x1a\n' + bytes(100), 'text.txt'))
        self.assertIn("application/zip", self.refused(samples.zip_bomb('anything', 10)))

    def test_file_without_text_is_refused(self):
        self.assertIn("no text", self.refused(b' \n'))
        self.assertIn("no text", self.refused(samples.pdf("")))

    def test_encodings_are_detected(self):
        text = "Grüße aus Köln, schöne Bücher für Ärzte über Öl"
        for encoding in ('utf-8', 'utf-8-sig', 'utf-16', 'latin-1'):
            with self.subTest(encoding):
                self.assertEqual(extract(text.encode(encoding)), text)

    def test_rows_of_a_csv_have_column_names(self):
        self.assertEqual(
            extract(b'Size;Price\nSmall;3\n\nLarge;"5;50"\n', 'prices.csv'),
            "Size: Small\nPrice: 3\n\nSize: Large\nPrice: 5;50",
        )

    def test_html_is_read_in_paragraphs_without_scripts(self):
        page = b'<html><head><style>p{}</style></head><body><p>One</p><script>x()</script><div>Two&amp;<b>three</b></div></body>'
        self.assertEqual(extract(page), "One\n\nTwo&three")

    def test_page_is_read_without_its_menu(self):
        menu = '<nav>' + ''.join(f'<a href="/{n}">Entry {n}</a>' for n in range(20)) + '</nav>'
        said = "Parcels leave the same day if they are ordered before noon, and arrive within three days. " * 5
        page = f'<html><head><title>Shipping</title></head><body>{menu}<article><h1>Shipping</h1><p>{said}</p></article></body></html>'
        title, text = page_text(page.encode())
        self.assertEqual(title, "Shipping")
        self.assertIn("Parcels leave", text)
        self.assertNotIn("Entry 7", text)

    def test_short_page_is_read_whole(self):
        self.assertIn("Closed", page_text(b'<html><body><div>Closed</div></body></html>')[1])

    def test_page_is_decoded_despite_a_wrong_charset(self):
        page = "<html><head><meta charset='utf-8'></head><body><p>Grüße</p></body></html>"
        self.assertIn("Grüße", page_text(page.encode(), charset='ascii')[1])
        self.assertIn("Grüße", page_text(page.encode('utf-16'), charset='utf-16')[1])
