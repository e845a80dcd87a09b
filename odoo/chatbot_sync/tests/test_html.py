import json
from pathlib import Path

from odoo.tests import TransactionCase, tagged

from ..tools.extract import Unreadable, extract, page_text
from ..tools.html import html_text

# Cases that this reader and the extension's reader both have to pass.
CASES = Path(__file__).with_name('html_cases.json')


@tagged('post_install', '-at_install')
class TestHtml(TransactionCase):
    def test_html_is_read_as_a_person_sees_it(self):
        cases = json.loads(CASES.read_text(encoding='utf-8'))
        self.assertGreater(len(cases), 50)
        for case in cases:
            with self.subTest(case['promise'], html=case['html']):
                self.assertEqual(html_text(case['html']), case['text'])

    def test_encoding_is_that_of_the_mark_the_declaration_or_the_letters(self):
        japanese, german, russian = "返品は十日以内です。", "Grüße aus Köln – „heute“", "Привет, заказ будет завтра."
        for text, encoding, head in (
            (german, 'utf-8', ''),
            (german, 'utf-8-sig', '<meta charset=windows-1252>'),
            (german, 'utf-16', '<meta charset=windows-1252>'),
            (german, 'utf-16-le', ''),
            (german, 'utf-8', '<meta charset=utf-8>'),
            (german, 'cp1252', '<meta charset=iso-8859-1>'),
            (german, 'cp1252', '<meta charset=utf-8>'),
            (german, 'utf-8', '<meta charset=iso-8859-1>'),
            (german, 'cp1252', ''),
            (japanese, 'cp932', '<meta http-equiv="Content-Type" content="text/html; charset=Shift_JIS">'),
            (japanese, 'iso2022_jp', '<META CHARSET = "iso-2022-jp">'),
            (japanese, 'euc_jp', "<meta charset='euc-jp'>"),
            (russian, 'koi8-r', '<?xml version="1.0" encoding="koi8-r"?>'),
            (russian, 'cp1251', ''),
            (russian, 'utf-8', '<meta charset="no such thing">'),
        ):
            with self.subTest(encoding, head=head):
                page = f'{head}<html><body><p>{text}</p></body></html>'.encode(encoding)
                self.assertEqual(extract(page, 'page.html'), text)

    def test_broken_byte_does_not_change_the_encoding(self):
        self.assertEqual(extract("Grüße aus Köln, über Nürnberg ".encode() * 9 + b'\xe9', 'text.txt').count("Köln, über"), 9)

    def test_page_is_decoded_as_its_server_says_where_that_is_possible(self):
        page = "<html><body><p>Привет, заказ</p></body></html>"
        self.assertIn("Привет, заказ", page_text(page.encode('koi8-r'), charset='koi8-r')[1])
        self.assertIn("Привет, заказ", page_text(page.encode(), charset='iso-8859-1')[1])
        self.assertIn("Привет, заказ", page_text(page.encode(), charset='no such thing')[1])

    def test_page_is_read_without_hidden_text(self):
        said = "Parcels leave the same day if they are ordered before noon, and arrive within three days. " * 5
        page = (
            f'<html><head><title>Shipping</title></head><body><article><h1>Shipping</h1><p>{said}</p>'
            f'<p style="display: none">A secret draft of the page that nobody is to see before the next spring. {said}</p>'
            f'<noscript><p>Switch scripts on, please, for this page to work as it was meant to. {said}</p></noscript>'
            f'<template><p>A template of something. {said}</p></template></article></body></html>'
        )
        _title, text = page_text(page.encode())
        self.assertIn("Parcels leave", text)
        for hidden in ("secret draft", "Switch scripts on", "A template"):
            self.assertNotIn(hidden, text)

    def test_too_deeply_nested_html_is_refused(self):
        self.assertEqual(extract(b'<div>' * 1000 + b'Hello', 'page.html'), "Hello")
        with self.assertRaises(Unreadable):
            extract(b'<div>' * 100_000 + b'Hello', 'page.html')
