"""The text of spreadsheets (XLSX, XLS): the rows that are shown, with numbers and dates in the format of their cells.

openpyxl, which Odoo needs anyway, is used for formats, dates and column names. It does not read the cells: it would
take fifty times the file's size in memory, or not say which rows are hidden, and it loses the text of text boxes and
charts.
"""

import itertools
import math
import re

from lxml import etree
from openpyxl.styles.numbers import BUILTIN_FORMATS
from openpyxl.utils.cell import column_index_from_string

from .archive import child, descendants, get, local
from .drawing import shape_paragraphs
from .number_formats import CALENDAR_MAC_1904, CALENDAR_WINDOWS_1900, format_number
from .tables import table_paragraphs

PRINT_CODE = re.compile(r'&(?:"[^"]*"|\d+|K[0-9A-Fa-f+-]{6,8}|[A-Za-z])')


def paragraphs(package):
    """Yields the paragraphs of a workbook: for each sheet that is shown its name, its rows, and the texts drawn on
    it.

    :param Package package: the file
    """
    main = package.main() or 'xl/workbook.xml'
    workbook = package.tree(main)
    if workbook is None:
        raise ValueError("no workbook in it")
    relations = package.relations(main)
    strings = [text for name in package.related(main, 'sharedStrings') for text in _strings(package, name)]
    formats = [code for name in package.related(main, 'styles') for code in _formats(package.tree(name))]
    properties = child(workbook, 'workbookPr')
    mac = properties is not None and (get(properties, 'date1904') or '').lower() in ('1', 'true')
    epoch = CALENDAR_MAC_1904 if mac else CALENDAR_WINDOWS_1900
    for sheet in descendants(workbook, 'sheet'):
        target = next((value for key, value in sheet.items() if key.endswith('}id')), None)
        kind, name = relations.get(target, (None, None))
        if (get(sheet, 'state') or 'visible') != 'visible' or name not in package:
            continue
        cells = _Sheet(package, name, strings, formats, epoch)
        rows = () if kind == 'chartsheet' else table_paragraphs(cells.rows())
        yield from _titled(get(sheet, 'name'), itertools.chain(rows, _drawing_paragraphs(package, name), cells.printed))


def _titled(title, texts):
    """Yields a title before the first text that is not blank, then the texts."""
    for text in texts:
        if title and text.strip():
            yield title
            title = None
        yield text


def _strings(package, name):
    """Yields the shared strings that cells refer to."""
    for _event, node in _iterate(package, name, 'si'):
        yield _text(node)
        _free(node)


def _text(node):
    """Returns the text of a string item, without its phonetic reading."""
    return ''.join(inner.text or '' for inner in descendants(node, 't') if local(inner.getparent()) != 'rPh')


def _iterate(package, name, *tags):
    """Yields elements of these names at their end, each as the second item of a pair."""
    return etree.iterparse(
        package.archive.open(name), events=('end',), tag=[f'{{*}}{tag}' for tag in tags], resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False,
    )


def _free(node):
    """Frees an element and those before it, so that memory does not grow with the sheet."""
    node.clear(keep_tail=False)
    while node.getprevious() is not None:
        del node.getparent()[0]


def _formats(styles):
    """Returns the number format of each cell style."""
    if styles is None:
        return []
    codes = {int(get(node, 'numFmtId') or 0): get(node, 'formatCode') for node in descendants(styles, 'numFmt')}
    cells = child(styles, 'cellXfs')
    numbers = [int(get(node, 'numFmtId') or 0) for node in cells] if cells is not None else []
    return [codes.get(number) or BUILTIN_FORMATS.get(number, 'General') for number in numbers]


class _Sheet:
    def __init__(self, package, name, strings, formats, epoch):
        self.package, self.name = package, name
        self.strings, self.formats, self.epoch = strings, formats, epoch
        self.hidden = []  # hidden columns, as pairs (first, last)
        self.printed = []  # headers and footers

    def rows(self):
        """Yields the rows that are shown, each as a dict of texts by column number."""
        for _event, node in _iterate(self.package, self.name, 'row', 'col', 'oddHeader', 'oddFooter'):
            name = local(node)
            if name == 'row':
                if not _is_true(node.get('hidden')):
                    yield self._row(node)
                _free(node)
            elif name != 'col':
                printed = re.sub('&[LCR]', '\t', (node.text or '').replace('&&', '\0'))
                self.printed.append(PRINT_CODE.sub('', printed).replace('\0', '&').strip())
            elif _is_true(node.get('hidden')):
                self.hidden.append((int(node.get('min') or 0), int(node.get('max') or 0)))

    def _row(self, row):
        found, column = {}, 0
        for cell in row:
            reference = (cell.get('r') or '').rstrip('0123456789')
            column = column_index_from_string(reference) if reference else column + 1
            if not any(first <= column <= last for first, last in self.hidden):
                found[column] = self._cell(cell)
        return found

    def _cell(self, cell):
        kind = cell.get('t') or 'n'
        if kind == 'inlineStr':
            return _text(cell)
        value = child(cell, 'v')
        value = (value.text or '') if value is not None else ''
        if kind == 's':
            at = int(value or -1)
            return self.strings[at] if 0 <= at < len(self.strings) else ''
        if kind == 'b':
            return 'TRUE' if value == '1' else 'FALSE' if value else ''
        if kind == 'd':
            return value.replace('T', ' ')
        if kind != 'n' or not value:
            return value
        try:
            number = float(value)
        except ValueError:
            return value
        if not math.isfinite(number):
            return value
        style = int(cell.get('s') or 0)
        return format_number(number, self.formats[style] if style < len(self.formats) else 'General', self.epoch)


def _is_true(value):
    return (value or '').lower() in ('1', 'true')


def _drawing_paragraphs(package, name):
    """Yields what a sheet says outside of its cells: text boxes and charts, comments."""
    for drawing in package.related(name, 'drawing'):
        yield from shape_paragraphs(package.tree(drawing), package, package.relations(drawing))
    threads = list(package.related(name, 'threadedComment'))
    for comments in threads or package.related(name, 'comments'):
        for comment in descendants(package.tree(comments), 'threadedComment' if threads else 'comment'):
            text = child(comment, 'text')
            if text is not None:
                yield f'Comment: {(text.text if threads else _text(text)) or ""}'


def xls_paragraphs(data):
    """Yields the paragraphs of a workbook of Excel before 2007."""
    import xlrd  # noqa: PLC0415  only these need it

    book = xlrd.open_workbook(file_contents=data, formatting_info=True, on_demand=True)
    epoch = CALENDAR_MAC_1904 if book.datemode else CALENDAR_WINDOWS_1900

    def rows(sheet):
        columns = {number for number, info in sheet.colinfo_map.items() if info.hidden}
        for number in range(sheet.nrows):
            info = sheet.rowinfo_map.get(number)
            if not (info and info.hidden):
                yield {column: text(cell) for column, cell in enumerate(sheet.row(number)) if column not in columns}

    def text(cell):
        if cell.ctype in (xlrd.XL_CELL_NUMBER, xlrd.XL_CELL_DATE):
            code = book.format_map[book.xf_list[cell.xf_index].format_key].format_str
            return format_number(cell.value, code, epoch)
        if cell.ctype == xlrd.XL_CELL_BOOLEAN:
            return 'TRUE' if cell.value else 'FALSE'
        if cell.ctype == xlrd.XL_CELL_ERROR:
            return xlrd.error_text_from_code.get(cell.value, '')
        return str(cell.value)

    for number in range(book.nsheets):
        sheet = book.sheet_by_index(number)
        if not sheet.visibility:
            notes = (f'Comment: {note.text}' for note in sheet.cell_note_map.values() if note.show or note.text)
            yield from _titled(sheet.name, itertools.chain(table_paragraphs(rows(sheet)), notes))
        book.unload_sheet(number)
