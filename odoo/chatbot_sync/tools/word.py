"""The text of Word files (DOCX), as Word shows it with all changes accepted.

python-docx loses what is in content controls, insertions, text boxes, fields, notes, headers and footers; mammoth loses
headers, footers, simple fields and formulas, and shows hidden text; docx2python shows moved text twice and loses comments.
"""

from .archive import child, descendants, get, is_on, local
from .drawing import picture_description, graphic_paragraphs

# Deleted and moved-away text, and elements that only describe how text looks.
SKIPPED = frozenset((
    'del', 'moveFrom', 'delText', 'instrText', 'delInstrText', 'rPr', 'pPr', 'tblPr', 'tblGrid', 'trPr', 'tcPr', 'sectPr', 'sdtPr',
    'sdtEndPr', 'fldData', 'ctrlPr', 'softHyphen', 'rt',
))
CHARACTERS = {'tab': '\t', 'ptab': '\t', 'br': '\n', 'cr': '\n', 'noBreakHyphen': '-'}
NOTES = {'footnoteReference': 'footnotes', 'endnoteReference': 'endnotes', 'commentReference': 'comments'}


def paragraphs(package, read_part=None):
    """Yields the paragraphs of a document: headers, then the text with its notes and comments, then footers.

    :param Package package: the file
    :param read_part: returns the text of a file that is embedded whole (``altChunk``), given its bytes and its name
    """
    main = package.main() or 'word/document.xml'
    document = package.tree(main)
    body = child(document, 'body') if document is not None else None
    if body is None:
        raise ValueError("no document in it")
    reader = _Reader(package, main, read_part)
    yield from reader.around(body, 'headerReference')
    yield from reader.blocks(body)
    yield from reader.around(body, 'footerReference')


class _Reader:
    def __init__(self, package, main, read_part):
        self.package = package
        self.read_part = read_part
        self.main = self.part = main
        self.relations = package.relations(main)
        self.hidden_styles = self._hidden_styles()
        self.notes = {}
        self.fields = []  # for each open field, whether its instruction is being read

    def _hidden_styles(self):
        """Returns the ids of the styles whose text is hidden."""
        found, parents = set(), {}
        for name in self.package.related(self.main, 'styles'):
            for style in descendants(self.package.tree(name), 'style'):
                vanish, parent = child(style, 'rPr', 'vanish'), child(style, 'basedOn')
                if vanish is not None:
                    if is_on(vanish):
                        found.add(get(style, 'styleId'))
                elif parent is not None:
                    parents[get(style, 'styleId')] = get(parent, 'val')
        for style in parents:
            seen, at = set(), style
            while at in parents and at not in seen:
                seen.add(at)
                at = parents[at]
            if at in found:
                found |= seen
        return found

    def around(self, body, reference):
        """Yields the paragraphs of headers or footers, each text once."""
        seen = set()
        for node in descendants(body, reference):
            kind, name = self.relations.get(get(node, 'id'), (None, None))
            if name in seen or kind not in ('header', 'footer') or name not in self.package:
                continue
            seen.add(name)
            texts = [text for text in self._in_part(name, self.package.tree(name)) if text.strip()]
            if tuple(texts) not in seen:
                seen.add(tuple(texts))
                yield from texts

    def _in_part(self, name, node):
        """Yields the paragraphs of an element in another part, with the relations of that part."""
        outer = self.part, self.relations, self.fields
        self.part, self.relations, self.fields = name, self.package.relations(name), []
        try:
            yield from list(self.blocks(node))
        finally:
            self.part, self.relations, self.fields = outer

    def blocks(self, container):
        """Yields the paragraphs and table rows within an element."""
        for node in container:
            name = local(node)
            if name == 'p':
                yield from self.paragraph(node)
            elif name == 'tbl':
                for row in self._inner(node, 'tr'):
                    yield self.row(row)
            elif name == 'AlternateContent':
                yield from self.blocks(_chosen(node))
            elif name == 'altChunk':
                yield self.embedded(node)
            elif name not in SKIPPED:
                yield from self.blocks(node)

    def _inner(self, node, wanted):
        """Yields the rows of a table or the cells of a row, also those within content controls."""
        for inner in node:
            name = local(inner)
            if name == wanted:
                yield inner
            elif name not in SKIPPED:
                yield from self._inner(inner, wanted)

    def row(self, row):
        properties = child(row, 'trPr')
        if properties is not None and (child(properties, 'del') is not None or is_on(child(properties, 'hidden'))):
            return ''
        cells = (
            ' '.join(text for text in self.blocks(cell) if text.strip())
            for cell in self._inner(row, 'tc') if child(cell, 'tcPr', 'cellDel') is None
        )
        return '\t'.join(cells).rstrip('\t')

    def paragraph(self, paragraph):
        """Yields a paragraph, then what is anchored in it: text boxes, charts, notes and comments."""
        anchored = []
        style = child(paragraph, 'pPr', 'pStyle')
        if style is not None and get(style, 'val') in self.hidden_styles:
            return
        yield ''.join(self.inline(paragraph, anchored))
        # A field without an end must not hide the paragraphs that follow.
        self.fields = [False for _instruction in self.fields]
        for text in anchored:
            yield from text

    def inline(self, container, anchored):
        """Yields the pieces of text within an element. Paragraphs that are not part of the line are added to
        ``anchored``."""
        for node in container:
            name = local(node)
            if name in SKIPPED:
                continue
            if name == 'r' and self._is_hidden(node):
                continue
            if name == 'fldChar':
                yield from self._field(node)
            elif any(self.fields):
                if name not in ('t', *CHARACTERS):
                    yield from self.inline(node, anchored)
            elif name == 't':
                yield node.text or ''
            elif name in CHARACTERS:
                yield CHARACTERS[name]
            elif name == 'sym':
                yield _symbol(node)
            elif name in NOTES:
                anchored.append(self.note(NOTES[name], get(node, 'id')))
            elif name == 'AlternateContent':
                yield from self.inline(_chosen(node), anchored)
            elif name == 'txbxContent':
                anchored.append(list(self.blocks(node)))
            elif name == 'textpath':
                anchored.append([get(node, 'string') or ''])
            elif name == 'docPr':
                anchored.append([picture_description(node)])
            elif name in ('chart', 'relIds'):
                anchored.append(list(graphic_paragraphs(container, self.package, self.relations)))
            elif name == 'ruby':
                yield from self.inline(node, anchored)
                top = ''.join(self.inline(child(node, 'rt') if child(node, 'rt') is not None else (), anchored))
                yield f'({top})' if top else ''
            elif name == 'f':  # a fraction
                parts = (child(node, 'num'), child(node, 'den'))
                yield '/'.join(''.join(self.inline(part, anchored)) for part in parts if part is not None)
            else:
                yield from self.inline(node, anchored)

    def _is_hidden(self, run):
        vanish, style = child(run, 'rPr', 'vanish'), child(run, 'rPr', 'rStyle')
        return is_on(vanish) or (vanish is None and style is not None and get(style, 'val') in self.hidden_styles)

    def _field(self, node):
        """Updates the state of open fields: instructions are not shown, results are."""
        kind = get(node, 'fldCharType')
        if kind == 'begin':
            if (choices := child(node, 'ffData', 'ddList')) is not None:
                entries = [get(entry, 'val') or '' for entry in choices if local(entry) == 'listEntry']
                chosen = child(choices, 'result')
                at = int(get(chosen, 'val') or 0) if chosen is not None else 0
                yield entries[at] if 0 <= at < len(entries) else ''
            self.fields.append(True)
        elif self.fields and kind == 'separate':
            self.fields[-1] = False
        elif self.fields and kind == 'end':
            self.fields.pop()

    def note(self, kind, identifier):
        """Returns the paragraphs of a footnote, endnote or comment, once."""
        if kind not in self.notes:
            self.notes[kind] = {}
            for name in self.package.related(self.main, kind):
                self.notes[kind] = {get(note, 'id'): (name, note) for note in self.package.tree(name)}
        name, note = self.notes[kind].pop(identifier, (None, None))
        if note is None:
            return []
        texts = [text for text in self._in_part(name, note) if text.strip()]
        if kind == 'comments' and texts:
            author = get(note, 'author')
            texts[0] = f'Comment by {author}: {texts[0]}' if author else f'Comment: {texts[0]}'
        return texts

    def embedded(self, node):
        _kind, name = self.relations.get(get(node, 'id'), (None, None))
        if self.read_part is None or name not in self.package:
            return ''
        return self.read_part(self.package.read(name), name)


def _chosen(alternatives):
    """Returns the alternative that current programs show."""
    chosen = child(alternatives, 'Choice')
    if chosen is None:
        chosen = child(alternatives, 'Fallback')
    return chosen if chosen is not None else ()


def _symbol(node):
    """Returns the character with this number. Characters of symbol fonts have no meaning as text and are left out."""
    try:
        character = chr(int(get(node, 'char') or '', 16))
    except ValueError:
        return ''
    return '' if '\ue000' <= character <= '\uf8ff' or '\ud800' <= character <= '\udfff' else character
