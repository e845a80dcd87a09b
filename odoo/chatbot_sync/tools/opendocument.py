"""The text of OpenDocument files (ODT, ODS, ODP): documents, spreadsheets and slides of LibreOffice and others.

odfpy is no longer maintained, and neither it nor odfdo shows what is hidden. So lxml is used, which Odoo needs
anyway.
"""

from lxml import etree

from .archive import MAX_PART, child, descendants, get, local, xml_parser
from .drawing import FILE_NAME
from .tables import table_paragraphs

# Deleted text of tracked changes, sources of indexes, formulas and others that are not shown.
SKIPPED = frozenset((
    'tracked-changes', 'forms', 'sequence-decls', 'variable-decls', 'user-field-decls', 'dde-connection-decls', 'event-listeners',
    'covered-table-cell', 'title', 'scripts', 'script', 'binary-data', 'ruby-text', 'note-citation', 'named-expressions',
))
MAX_REPEATED = 1000  # the largest repetition of a cell or row that is not empty


def paragraphs(archive):
    """Yields the paragraphs of a document with its headers and footers, of a spreadsheet, or of slides.

    :param zipfile.ZipFile archive: the file
    """
    content, styles = _tree(archive, 'content.xml'), _tree(archive, 'styles.xml')
    body = child(content, 'body') if content is not None else None
    if body is None or not len(body):
        raise ValueError("no content in it")
    reader = _Reader(content, styles)
    yield from reader.around('header')
    yield from reader.blocks(body[0])
    yield from reader.around('footer')


def _tree(archive, name):
    if name not in archive.namelist():
        return None
    if archive.getinfo(name).file_size > MAX_PART:
        raise ValueError(f"{name} has more than {MAX_PART // 1024**2} MB")
    return etree.fromstring(archive.read(name), xml_parser())


class _Reader:
    def __init__(self, content, styles):
        self.styles = styles
        self.hidden = set()  # names of hidden styles
        for root in (styles, content):
            for style in descendants(root, 'style') if root is not None else ():
                if any(_hides(properties) for properties in style):
                    self.hidden.add(get(style, 'name'))
        self.pages = {get(page, 'master-page-name') for page in descendants(content, 'page')}

    def around(self, kind):
        """Yields the paragraphs of headers or footers, each text once. For slides: what their masters show."""
        said = set()
        for master in descendants(self.styles, 'master-page') if self.styles is not None else ():
            if self.pages:
                parts = [master] if kind == 'footer' and get(master, 'name') in self.pages else []
            else:
                parts = [node for node in master if local(node) in (kind, f'{kind}-left', f'{kind}-first')]
            for part in parts:
                if (get(part, 'display') or 'true') == 'false':
                    continue
                for text in self.blocks(part):
                    if text.strip() and text not in said:
                        said.add(text)
                        yield text

    def blocks(self, container):
        """Yields the paragraphs and table rows within an element."""
        for node in container:
            name = local(node)
            if not name or name in SKIPPED or name.endswith('-source') or self._is_hidden(node):
                continue
            if name in ('p', 'h'):
                anchored = []
                yield ''.join(self.inline(node, anchored))
                for text in anchored:
                    yield from text
            elif name == 'table':
                yield from self.table(node)
            elif name == 'annotation':
                yield from self.comment(node)
            elif name == 'desc':
                yield '' if FILE_NAME.fullmatch((node.text or '').strip()) else (node.text or '')
            elif get(node, 'placeholder') != 'true':
                yield from self.blocks(node)

    def _is_hidden(self, node):
        return (
            get(node, 'style-name') in self.hidden
            or get(node, 'display') in ('none', 'condition')
            or get(node, 'visibility') in ('collapse', 'filter')
            or get(node, 'is-hidden') == 'true'
        )

    def inline(self, container, anchored):
        """Yields the pieces of text within an element. Paragraphs that are not part of the line are added to
        ``anchored``."""
        yield container.text or ''
        for node in container:
            name = local(node)
            if name == 's':
                yield ' ' * min(int(get(node, 'c') or 1), 1000)
            elif name == 'tab':
                yield '\t'
            elif name == 'line-break':
                yield '\n'
            elif name == 'annotation':
                anchored.append(list(self.comment(node)))
            elif name in ('note', 'frame', 'custom-shape', 'text-box', 'g', 'rect', 'ellipse', 'line', 'path', 'polygon', 'connector'):
                anchored.append([] if self._is_hidden(node) else list(self.blocks(node)))
            elif name == 'ruby':
                base, top = child(node, 'ruby-base'), child(node, 'ruby-text')
                yield ''.join(self.inline(base, anchored)) if base is not None else ''
                yield f'({top.text})' if top is not None and top.text else ''
            elif name and name not in SKIPPED and not self._is_hidden(node):
                yield from self.inline(node, anchored)
            yield node.tail or ''

    def comment(self, node):
        author = next((inner.text for inner in descendants(node, 'creator')), None)
        texts = [''.join(self.inline(paragraph, [])) for paragraph in descendants(node, 'p')]
        if any(texts):
            yield f'Comment{" by " + author if author else ""}: ' + ' '.join(filter(None, texts))

    def table(self, table):
        """Yields the rows of a table. Rows of a sheet have the names of their columns."""
        is_sheet = local(table.getparent()) == 'spreadsheet'
        anchored = []
        rows = self._rows(table, self._hidden_columns(table), anchored)
        if is_sheet:
            title = get(table, 'name')
            for text in table_paragraphs(rows):
                if title:
                    yield title
                    title = None
                yield text
        else:
            yield from ('\t'.join(row.get(column, '') for column in range(max(row, default=-1) + 1)) for row in rows)
        for node in table:
            if local(node) == 'shapes':
                yield from self.blocks(node)
        yield from anchored

    def _hidden_columns(self, table):
        """Returns the numbers of the hidden columns."""
        found, column = set(), 0
        for node in descendants(table, 'table-column'):
            count = int(get(node, 'number-columns-repeated') or 1)
            if self._is_hidden(node):
                found.update(range(column, column + min(count, 20_000)))
            column += count
        return found

    def _rows(self, table, hidden, anchored):
        for node in table:
            name = local(node)
            if self._is_hidden(node):
                continue
            if name == 'table-row':
                row, column = {}, 0
                for cell in node:
                    if local(cell) not in ('table-cell', 'covered-table-cell'):
                        continue
                    count = int(get(cell, 'number-columns-repeated') or 1)
                    if local(cell) == 'table-cell' and len(cell):
                        comments = [inner for inner in cell if local(inner) == 'annotation']
                        for comment in comments:
                            anchored.extend(self.comment(comment))
                            cell.remove(comment)
                        text = ' '.join(text for text in self.blocks(cell) if text.strip())
                        row.update((at, text) for at in range(column, column + min(count, MAX_REPEATED)) if at not in hidden)
                    column += count
                for _each in range(min(int(get(node, 'number-rows-repeated') or 1), MAX_REPEATED) if row else 0):
                    yield row
            elif name in ('table-header-rows', 'table-rows', 'table-row-group'):
                yield from self._rows(node, hidden, anchored)


def _hides(properties):
    """Whether properties of a style hide the elements that have it."""
    name, display = local(properties), get(properties, 'display')
    return (
        (name == 'text-properties' and display == 'none')
        or (name == 'table-properties' and display == 'false')
        or (name == 'drawing-page-properties' and get(properties, 'visibility') == 'hidden')
    )
