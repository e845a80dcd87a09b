import datetime
import sys
from unittest.mock import patch

from openpyxl.chart import BarChart, Reference
from openpyxl.comments import Comment
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

from odoo.tests import TransactionCase, tagged

from ..tools import extract as tool
from ..tools.extract import Unreadable, extract, sniff
from ..tools.number_formats import format_number
from . import samples
from .samples import paragraph, run


class FormatCase(TransactionCase):
    def refused(self, data, name=None):
        with self.assertRaises(Unreadable) as caught:
            extract(data, name)
        return self.env._(caught.exception.message)


@tagged('post_install', '-at_install')
class TestWord(FormatCase):
    def read(self, body, **parts):
        return extract(samples.word_xml(body, **parts)).split('\n\n')

    def test_content_controls_are_read(self):
        control = '<w:sdt><w:sdtPr><w:alias w:val="No"/></w:sdtPr><w:sdtContent>%s</w:sdtContent></w:sdt>'
        table = '<w:tbl>%s</w:tbl>' % (control % ('<w:tr><w:tc>%s</w:tc>%s</w:tr>' % (
            paragraph(run("cell")), control % ('<w:tc>%s</w:tc>' % paragraph(run("controlled cell"))),
        )))
        self.assertEqual(
            self.read(control % paragraph(run("Block.")) + paragraph(run("In ") + control % run("line.")) + table),
            ["Block.", "In line.", "cell\tcontrolled cell"],
        )

    def test_changes_are_read_as_accepted(self):
        deleted = '<w:del w:id="1"><w:r><w:delText>deleted</w:delText></w:r></w:del>'
        row = '<w:tr><w:trPr><w:%s w:id="1"/></w:trPr><w:tc>%s</w:tc></w:tr>'
        body = paragraph(run("Paid ") + f'<w:ins w:id="2">{run("at once")}</w:ins>{deleted}.')
        body += paragraph(f'<w:moveFrom w:id="3">{run("moved")}</w:moveFrom>') + paragraph(f'<w:moveTo w:id="4">{run("moved")}</w:moveTo>')
        body += f'<w:tbl>{row % ("ins", paragraph(run("new row")))}{row % ("del", paragraph(run("old row")))}</w:tbl>'
        self.assertEqual(self.read(body), ["Paid at once", "moved", "new row"])

    def test_text_boxes_are_read_once(self):
        box = f'<w:txbxContent>{paragraph(run("In a box."))}</w:txbxContent>'
        drawn = (
            '<w:r><mc:AlternateContent><mc:Choice Requires="wps"><w:drawing><wp:anchor><wp:docPr id="1" name="Box"/><a:graphic>'
            f'<a:graphicData><wps:wsp><wps:txbx>{box}</wps:txbx></wps:wsp></a:graphicData></a:graphic></wp:anchor></w:drawing></mc:Choice>'
            f'<mc:Fallback><w:pict><v:shape><v:textbox>{box}</v:textbox></v:shape></w:pict></mc:Fallback></mc:AlternateContent></w:r>'
        )
        old = f'<w:r><w:pict><v:shape><v:textbox>{box}</v:textbox></v:shape><v:shape><v:textpath string="DRAFT"/></v:shape></w:pict></w:r>'
        self.assertEqual(self.read(paragraph(run("Before ") + drawn + run("after"))), ["Before after", "In a box."])
        self.assertEqual(self.read(paragraph(old)), ["In a box.", "DRAFT"])

    def test_fields_show_their_results(self):
        def char(kind, inner=''):
            return f'<w:r><w:fldChar w:fldCharType="{kind}">{inner}</w:fldChar></w:r>'

        instruction = '<w:r><w:instrText> MERGEFIELD Name </w:instrText></w:r>'
        nested = char('begin') + run("IF ") + char('begin') + instruction + char('separate') + run("condition") + char('end')
        choices = '<w:ffData><w:ddList><w:result w:val="1"/><w:listEntry w:val="Red"/><w:listEntry w:val="Blue"/></w:ddList></w:ffData>'
        for body, shows in (
            ('<w:fldSimple w:instr=" AUTHOR ">%s</w:fldSimple>' % run("Ann"), "Ann"),
            (char('begin') + instruction + char('separate') + run("Ann") + char('end'), "Ann"),
            (nested + char('separate') + run("result") + char('end') + run(" after"), "result after"),
            (char('begin', choices) + char('end'), "Blue"),
            ('<w:hyperlink r:id="x">%s</w:hyperlink>' % run("a link"), "a link"),
        ):
            with self.subTest(shows):
                self.assertEqual(self.read(paragraph(body) + paragraph(run("Next."))), [shows, "Next."])
        self.assertEqual(self.read(paragraph(char('begin') + run("x")) + paragraph(run("Next."))), ["Next."])

    def test_headers_footers_notes_and_comments_are_read(self):
        note = '<w:%ss NAMESPACES><w:%s w:id="0" w:type="separator">%s</w:%s><w:%s w:id="2">%s</w:%s></w:%ss>'

        def notes(kind, text):
            return note % (kind, kind, paragraph(run("separator")), kind, kind, paragraph(run(text)), kind, kind)

        body = paragraph(run("Text") + ''.join(
            f'<w:r><w:{reference} w:id="2"/></w:r>' for reference in ('footnoteReference', 'endnoteReference', 'commentReference')
        )) + '<w:sectPr><w:headerReference r:id="header1"/><w:headerReference r:id="header2"/><w:footerReference r:id="footer1"/></w:sectPr>'
        header = '<w:hdr NAMESPACES>%s</w:hdr>' % paragraph(run("Header"))
        parts = {
            'header1': header, 'header2': header, 'footer1': header.replace("Header", "Footer"),
            'footnotes': notes('footnote', "Footnote"), 'endnotes': notes('endnote', "Endnote"),
            'comments': notes('comment', "Really?").replace('w:id="2"', 'w:id="2" w:author="Ann"'),
        }
        self.assertEqual(self.read(body, **parts), ["Header", "Text", "Footnote", "Endnote", "Comment by Ann: Really?", "Footer"])

    def test_hidden_text_is_not_read(self):
        styles = (
            '<w:styles NAMESPACES><w:style w:styleId="Base"><w:rPr><w:vanish/></w:rPr></w:style>'
            '<w:style w:styleId="Heir"><w:basedOn w:val="Base"/></w:style></w:styles>'
        )
        body = paragraph(run("a") + run("hidden", '<w:vanish/>') + run("b", '<w:vanish w:val="0"/>') + run("hidden", '<w:rStyle w:val="Heir"/>'))
        body += '<w:p><w:pPr><w:pStyle w:val="Base"/></w:pPr>%s</w:p>' % run("hidden")
        self.assertEqual(self.read(body, styles=styles), ["ab"])

    def test_tables_in_tables_symbols_formulas_and_readings_are_read(self):
        inner = '<w:tbl><w:tr>%s</w:tr></w:tbl>' % ''.join(f'<w:tc>{paragraph(run(text))}</w:tc>' for text in ("b", "c"))
        table = f'<w:tbl><w:tr><w:tc>{paragraph(run("a"))}</w:tc><w:tc>{inner}{paragraph("")}</w:tc></w:tr></w:tbl>'
        body = table + paragraph(
            run("non") + '<w:r><w:noBreakHyphen/><w:t>stop</w:t><w:tab/><w:t>x</w:t><w:br/><w:sym w:font="Arial" w:char="2713"/></w:r>'
        ) + paragraph('<m:oMath><m:f><m:num><m:r><m:t>a</m:t></m:r></m:num><m:den><m:r><m:t>b</m:t></m:r></m:den></m:f></m:oMath>')
        body += paragraph(f'<w:r><w:ruby><w:rt>{run("top")}</w:rt><w:rubyBase>{run("base")}</w:rubyBase></w:ruby></w:r>')
        self.assertEqual(self.read(body), ["a\tb\tc", "non-stop\tx\n✓", "a/b", "base(top)"])

    def test_charts_and_picture_descriptions_are_read(self):
        drawing = '<w:r><w:drawing><wp:inline><wp:docPr id="1" name="Picture 1" descr="%s"/><a:graphic><a:graphicData>%s</a:graphicData></a:graphic></wp:inline></w:drawing></w:r>'
        chart = (
            '<c:chartSpace NAMESPACES><c:title><a:p><a:r><a:t>Sales</a:t></a:r></a:p></c:title>'
            '<c:strCache><c:pt><c:v>East</c:v></c:pt><c:pt><c:v>West</c:v></c:pt></c:strCache></c:chartSpace>'
        )
        body = paragraph(drawing % ("", '<c:chart r:id="chart1"/>')) + paragraph(drawing % ("Opening hours", "") + drawing % ("image1.png", ""))
        self.assertEqual(self.read(body, chart1=chart), ["Sales", "East, West", "Opening hours"])

    def test_files_that_a_document_holds_whole_are_read(self):
        parts = {'word/document.xml': f'<w:document {samples.WORD}><w:body><w:altChunk r:id="c1"/></w:body></w:document>', 'word/part.html': '<p>Grüße</p><p hidden>x</p>'}
        file = samples.package(parts, {'word/document.xml': {'c1': ('aFChunk', 'word/part.html')}}, 'word/document.xml')
        self.assertEqual(extract(file), "Grüße")

    def test_strict_files_and_those_of_python_docx_are_read(self):
        strict = samples.WORD.replace('http://schemas.openxmlformats.org/wordprocessingml/2006/main', 'http://purl.oclc.org/ooxml/wordprocessingml/main')
        document = f'<w:document {strict}><w:body>{paragraph(run("Hello"))}</w:body></w:document>'
        self.assertEqual(extract(samples.package({'word/document.xml': document}, {}, 'word/document.xml')), "Hello")
        self.assertEqual(extract(samples.word("Hello")), "Hello")

    def test_entities_are_not_expanded(self):
        entities = '<!ENTITY a0 "lol">' + ''.join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
        bomb = f'<!DOCTYPE x [{entities}<!ENTITY file SYSTEM "file:///etc/hostname">]><w:document {samples.WORD}><w:body>{paragraph(run("a&a9;&file;b"))}</w:body></w:document>'
        file = samples.package({'word/document.xml': bomb}, {}, 'word/document.xml')
        with open('/etc/hostname') as secret:
            try:
                text = extract(file)
            except Unreadable as error:
                text = self.env._(error.message)
            self.assertNotIn(secret.read().strip(), text)
        self.assertLess(len(text), 1000)


@tagged('post_install', '-at_install')
class TestSheets(FormatCase):
    def test_rows_are_read_as_they_are_shown(self):
        def fill(book):
            sheet = book.active
            sheet.title = "Prices"
            sheet.append(["Price list"])
            sheet.append(["Size", "Price", "Tax", "Since", "Ok"])
            sheet.append(["Small", 3.5, 0.19, datetime.date(2026, 3, 1), True])
            sheet['B3'].number_format, sheet['C3'].number_format = '#,##0.00 "€"', '0%'
            sheet['A3'].comment = Comment("Only in spring", "Ann")
            sheet.oddHeader.center.text = "Confidential &P"
            book.create_sheet("Empty")

        self.assertEqual(extract(samples.workbook(fill)).split('\n\n'), [
            "Prices", "Price list", "Size: Small\nPrice: 3.50 €\nTax: 19%\nSince: 2026-03-01\nOk: TRUE", "Comment: Only in spring",
            "Confidential",
        ])

    def test_hidden_sheets_rows_and_columns_are_not_read(self):
        def fill(book):
            sheet = book.active
            for row in (["a", "hidden", "b"], ["hidden", "hidden", "hidden"], ["c", "hidden", "d"]):
                sheet.append(row)
            sheet.row_dimensions[2].hidden = sheet.column_dimensions['B'].hidden = True
            for state in ('hidden', 'veryHidden'):
                other = book.create_sheet(state)
                other['A1'], other.sheet_state = "hidden", state

        self.assertEqual(extract(samples.workbook(fill)), "Sheet\n\na: c\nb: d")

    def test_charts_are_read(self):
        def fill(book):
            sheet = book.active
            sheet.append(["Region", "Sales"])
            sheet.append(["East", 1])
            chart = BarChart()
            chart.title = "Sales by region"
            chart.add_data(Reference(sheet, min_col=2, min_row=1, max_row=2), titles_from_data=True)
            sheet.add_chart(chart, 'D1')

        self.assertIn("Sales by region", extract(samples.workbook(fill)))

    def test_numbers_are_written_in_their_format(self):
        for value, code, text in (
            (3.0, 'General', "3"), (0.1 + 0.2, 'General', "0.3"), (1234.5, '#,##0', "1,235"), (0.1234, '0.0%', "12.3%"), (5, '000', "005"),
            (-5, '0;(0)', "(5)"), (0, '0;-0;"none"', "none"), (1e6, '0.0,,"M"', "1.0M"), (2, '[$€-407] 0.00', "€ 2.00"), (5, ';;;', ""),
            (1.1, '0.0##', "1.1"), (3, '0 "Stück; x"', "3 Stück; x"), (42, 'General" pcs"', "42 pcs"), (1.5, '# ?/?', "1.5"),
            (45000.5, 'dd/mm/yyyy hh:mm', "2023-03-15 12:00"), (45000, 'mmmm yyyy', "2023-03-15"), (0.75, 'h:mm AM/PM', "18:00"),
            (1.25, '[h]:mm', "30:00"),
        ):
            with self.subTest(code, value=value):
                self.assertEqual(format_number(value, code), text)

    def test_old_workbooks_are_read(self):
        def fill(book):
            sheet = book.add_sheet("Old")
            for row, values in enumerate([["Size", "Price"], ["Small", 3.5], ["hidden", 1]]):
                for column, value in enumerate(values):
                    sheet.write(row, column, value)
            sheet.row(2).hidden = True
            other = book.add_sheet("hidden")
            other.write(0, 0, "hidden")
            other.visibility = 1

        file = samples.old_workbook(fill)
        self.assertEqual(sniff(file), tool.XLS)
        self.assertEqual(extract(file), "Old\n\nSize: Small\nPrice: 3.5")

    def test_missing_library_is_named(self):
        file = samples.workbook(lambda book: book.active.append(["Hello"]))
        with patch.dict(sys.modules):
            for name in [name for name in sys.modules if name.startswith('openpyxl') or name.endswith(('tools.sheets', 'tools.number_formats'))]:
                del sys.modules[name]
            sys.modules['openpyxl'] = None
            package = sys.modules[tool.__package__]
            with patch.object(package, 'sheets', create=True):
                del package.sheets
                self.assertIn("openpyxl", self.refused(file))
        self.assertEqual(extract(file), "Sheet\n\nHello")


@tagged('post_install', '-at_install')
class TestSlides(FormatCase):
    def test_slides_are_read_with_tables_charts_groups_and_notes(self):
        def fill(presentation):
            slide = presentation.slides.add_slide(presentation.slide_layouts[1])
            slide.shapes.title.text, slide.placeholders[1].text = "Title", "First\nSecond"
            group = slide.shapes.add_group_shape()
            group.shapes.add_textbox(0, 0, Inches(1), Inches(1)).text_frame.text = "Grouped"
            table = slide.shapes.add_table(1, 2, 0, 0, Inches(2), Inches(1)).table
            table.cell(0, 0).text, table.cell(0, 1).text = "a", "b"
            data = CategoryChartData()
            data.categories = ["East", "West"]
            data.add_series("Sales", (1, 2))
            slide.shapes.add_chart(XL_CHART_TYPE.PIE, 0, 0, Inches(2), Inches(2), data)
            slide.notes_slide.notes_text_frame.text = "Say it slowly"
            hidden = presentation.slides.add_slide(presentation.slide_layouts[5])
            hidden.shapes.title.text = "hidden"
            hidden._element.set('show', '0')
            background = presentation.slide_master.shapes._spTree
            background.append(slide.shapes.add_textbox(0, 0, Inches(1), Inches(1))._element)
            background[-1].txBody.p_lst[0].add_r("Confidential")

        texts = extract(samples.presentation(fill)).split('\n\n')
        self.assertEqual(texts[:5], ["Title", "First", "Second", "Grouped", "a\tb"])
        self.assertIn("East, West", texts)
        self.assertEqual(texts[-2:], ["Confidential", "Say it slowly"])
        self.assertNotIn("hidden", texts)


@tagged('post_install', '-at_install')
class TestOpenDocument(FormatCase):
    def test_text_is_read_with_boxes_notes_comments_headers_and_footers(self):
        body = (
            '<text:tracked-changes><text:changed-region><text:deletion><text:p>deleted</text:p></text:deletion></text:changed-region></text:tracked-changes>'
            '<text:p>Text<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>Note</text:p></text:note-body></text:note>'
            '<draw:frame><draw:text-box><text:p>Box</text:p></draw:text-box></draw:frame>'
            '<office:annotation><dc:creator>Ann</dc:creator><text:p>Really?</text:p></office:annotation> goes on</text:p>'
            '<text:p>a<text:span text:style-name="Hidden">hidden</text:span>b</text:p>'
            '<text:section text:display="none"><text:p>hidden</text:p></text:section>'
            '<table:table><table:table-row><table:table-cell><text:p>a</text:p></table:table-cell><table:table-cell><text:p>b</text:p></table:table-cell></table:table-row></table:table>'
        )
        styles = '<style:style style:name="Hidden"><style:text-properties text:display="none"/></style:style>'
        masters = '<style:master-page style:name="S"><style:header><text:p>Header</text:p></style:header><style:footer><text:p>Footer</text:p></style:footer></style:master-page>'
        self.assertEqual(
            extract(samples.open_document('text', body, styles, masters)).split('\n\n'),
            ["Header", "Text goes on", "Note", "Box", "Comment by Ann: Really?", "ab", "a\tb", "Footer"],
        )

    def test_sheets_are_read_as_they_are_shown(self):
        def cells(*texts):
            return ''.join(f'<table:table-cell><text:p>{text}</text:p></table:table-cell>' for text in texts)

        body = (
            '<table:table table:name="Prices"><table:table-column/><table:table-column table:visibility="collapse"/><table:table-column/>'
            f'<table:table-row>{cells("Size", "hidden", "Price")}<table:table-cell table:number-columns-repeated="16381"/></table:table-row>'
            f'<table:table-row table:visibility="filter">{cells("hidden")}</table:table-row>'
            f'<table:table-row>{cells("Small", "hidden", "3.50 €")}</table:table-row>'
            '<table:table-row table:number-rows-repeated="1048573"><table:table-cell table:number-columns-repeated="16384"/></table:table-row></table:table>'
            f'<table:table table:name="Other" table:style-name="Off"><table:table-row>{cells("hidden")}</table:table-row></table:table>'
        )
        styles = '<style:style style:name="Off"><style:table-properties table:display="false"/></style:style>'
        self.assertEqual(extract(samples.open_document('spreadsheet', body, styles)), "Prices\n\nSize: Small\nPrice: 3.50 €")

    def test_slides_are_read_with_masters_and_notes(self):
        def box(text):
            return f'<draw:frame><draw:text-box><text:p>{text}</text:p></draw:text-box></draw:frame>'

        body = (
            f'<draw:page draw:master-page-name="M">{box("Title")}<presentation:notes>{box("Notes")}</presentation:notes></draw:page>'
            f'<draw:page draw:master-page-name="M" draw:style-name="Off">{box("hidden")}</draw:page>'
        )
        styles = '<style:style style:name="Off"><style:drawing-page-properties presentation:visibility="hidden"/></style:style>'
        masters = f'<style:master-page style:name="M">{box("Confidential")}</style:master-page><style:master-page style:name="N">{box("unused")}</style:master-page>'
        self.assertEqual(
            extract(samples.open_document('presentation', body, styles, masters)).split('\n\n'), ["Title", "Notes", "Confidential"],
        )


@tagged('post_install', '-at_install')
class TestOtherFormats(FormatCase):
    def test_rtf_is_read_without_its_control_words(self):
        file = rb'''{\rtf1\ansi\ansicpg1252{\fonttbl{\f0\fcharset0 Arial;}{\f1\fcharset204 Arial;}}{\*\generator x;}{\info{\title Title}}
{\header\pard Header\par}{\footer\pard Footer\par}
\pard Caf\'e9 costs 3 \u8364? {\b at once}, \lquote all\rquote .\par
{\v hidden}\v hidden\v0 seen{\deleted deleted}\par
{\field{\*\fldinst{HYPERLINK "http://x.example/"}}{\fldrslt{a link}}}{\footnote\pard Note}{\*\atnauthor Ann}{\*\annotation\pard Really?}\par
\f1\'cf\'f0\'e8\'e2\'e5\'f2\f0\par
\trowd\cellx1000\cellx2000\pard\intbl a\cell b\cell\row
{\shp{\*\shpinst{\sp{\sn x}{\sv 1}}{\shptxt\pard Box\par}}{\shprslt Box}}{\pict\bin4 {}{}}\u-10179?\u-8704?\par}'''
        self.assertEqual(extract(file, 'x.rtf').split('\n\n'), [
            "Header", "Café costs 3 € at once, ‘all’.", "seen", "a link", "Note", "Comment by Ann: Really?", "Привет", "a\tb", "😀", "Box",
            "Footer",
        ])
        self.assertEqual(sniff(file, 'x.txt'), tool.RTF)

    def test_messages_are_read(self):
        file = (
            b'MIME-Version: 1.0\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nFrom: a@example.com\nTo: b@example.com\n'
            b'Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: text/html; charset=iso-8859-1\n'
            b'Content-Transfer-Encoding: quoted-printable\n\n<p>K=F6ln <b style=3D"display:none">hidden</b></p>\n'
            b'--x\nContent-Type: application/pdf\nContent-Disposition: attachment; filename="bill.pdf"\n\nx\n--x--\n'
        )
        self.assertEqual(
            extract(file).split('\n\n'), ["Subject: Grüße\nFrom: a@example.com\nTo: b@example.com", "Köln", "Attachments: bill.pdf"],
        )

    def test_text_is_decoded_in_every_encoding(self):
        for text, encoding in (
            ("Grüße aus Köln", 'latin-1'), ("5 € – “yes”", 'cp1252'), ("Grüße aus Köln", 'utf-16-le'), ("Grüße aus Köln", 'utf-16-be'),
            ("naïve", 'cp1252'), ("Café", 'cp1252'), ("é", 'cp1252'), ("Привет, как дела? Заказ будет доставлен.", 'cp1251'), ("返品は十日以内です。", 'euc-jp'), ("返品は十日以内です。", 'cp932'),
        ):
            with self.subTest(encoding, text=text):
                self.assertEqual(extract(text.encode(encoding), 'text.txt'), text)

    def test_delimiter_of_most_rows_is_used(self):
        for file, name, text in (
            (b'Question,Answer\nHow?,"a ""q"", b\nc"\n', 'a.csv', "Question: How?\nAnswer: a \"q\", b\nc"),
            (b'sep=|\nA|B\n1|2\n', 'a.csv', "A: 1\nB: 2"),
            (b'a\tb\n1\t2\n', 'a.tsv', "a: 1\nb: 2"),
            (b'1,2\n3,4\n', 'a.csv', "1\t2\n\n3\t4"),
            (b'One, two\n', 'a.csv', "One\ttwo"),
            (b'A,B\n1,"' + b'x' * 200_000 + b'"\n', 'a.csv', "A: 1\nB: " + 'x' * 200_000),
        ):
            with self.subTest(file[:20]):
                self.assertEqual(extract(file, name), text)

    def test_encrypted_files_are_reported(self):
        encrypted = tool.OLE + bytes(1000) + 'EncryptedPackage'.encode('utf-16-le') + bytes(100)
        self.assertIn("encrypted: save it without a password", self.refused(encrypted, 'x.xlsx'))

    def test_broken_files_are_reported_without_traceback(self):
        files = [
            samples.workbook(lambda book: book.active.append(["Hello"])), samples.presentation(lambda _slides: None),
            samples.word_xml(paragraph(run("Hello"))), samples.open_document('spreadsheet', '<table:table/>'),
        ]
        for whole in files:
            with self.subTest(whole[:40]):
                self.assertIn("broken", self.refused(whole[:len(whole) // 3], 'file'))
        cut = samples.package({'word/document.xml': '<w:document'}, {}, 'word/document.xml')
        self.assertIn("broken", self.refused(cut))
        self.assertIn("broken", self.refused(samples.package({'xl/other.xml': '<x/>'}, {}, 'xl/workbook.xml')))
        deep = '<w:sdt><w:sdtContent>' * 5000 + '</w:sdtContent></w:sdt>' * 5000
        self.assertIn("broken", self.refused(samples.word_xml(deep)))

    def test_archives_and_texts_have_a_limit_in_every_format(self):
        with patch.object(tool, 'MAX_UNPACKED', 1024**2):
            for name in ('word/document.xml', 'xl/workbook.xml', 'ppt/presentation.xml', 'content.xml'):
                self.assertIn("unpacks to more", self.refused(samples.zip_bomb(name, 2 * 1024**2)))
        with patch.object(tool, 'MAX_CHARACTERS', 10):
            self.assertIn("more than 10", self.refused(samples.word_xml(paragraph(run("Hello")) * 3)))
            self.assertIn("more than 10", self.refused(b'{\\rtf1 ' + b'Hello\\par ' * 3 + b'}'))
