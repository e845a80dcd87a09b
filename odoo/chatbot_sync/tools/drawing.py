"""Shapes, charts and diagrams of Office files (DrawingML), which documents, slides and sheets share."""

import re

from .archive import child, descendants, get, local

# A description that is only a file name, as some programs write it.
FILE_NAME = re.compile(r'\S+\.(png|jpe?g|gif|bmp|tiff?|svg|webp|emf|wmf)', re.IGNORECASE)


def paragraph_text(paragraph):
    """Returns the text of a paragraph (``a:p``)."""
    def pieces(node):
        for inner in node:
            name = local(inner)
            if name == 't':
                yield inner.text or ''
            elif name == 'br':
                yield '\n'
            elif name != 'Fallback':  # another form of the sibling "Choice"
                yield from pieces(inner)

    return ''.join(pieces(paragraph))


def body_paragraphs(body):
    """Yields the paragraphs of a text body (``a:p`` in ``txBody``)."""
    return (paragraph_text(node) for node in body if local(node) == 'p')


def table_rows(table):
    """Yields the rows of a table (``a:tbl``), with tabs between the cells."""
    for row in descendants(table, 'tr'):
        cells = (child(cell, 'txBody') for cell in row if local(cell) == 'tc')
        yield '\t'.join('' if body is None else ' '.join(filter(None, body_paragraphs(body))) for body in cells).rstrip('\t')


def picture_description(node):
    """Returns the author's description of a picture, from its ``docPr`` or ``cNvPr``; ``''`` where there is none."""
    text = (get(node, 'descr') or '').strip()
    return '' if FILE_NAME.fullmatch(text) else text


def is_hidden(properties):
    return properties is not None and (get(properties, 'hidden') or 'false').lower() in ('1', 'true', 'on')


def shape_paragraphs(node, package, relations):
    """Yields the paragraphs of a tree of shapes (``spTree``, ``wsDr``, and groups in them).

    :param dict relations: the relations of the part that contains the shapes
    """
    for shape in node:
        name = local(shape)
        if name == 'AlternateContent':
            chosen = child(shape, 'Choice')
            yield from shape_paragraphs(shape if chosen is None else chosen, package, relations)
            continue
        properties = next(iter(descendants(shape, 'cNvPr')), None) if name in ('sp', 'grpSp', 'pic', 'graphicFrame', 'cxnSp') else None
        if is_hidden(properties):
            continue
        if name in ('sp', 'cxnSp'):
            if (placeholder := next(iter(descendants(shape, 'ph')), None)) is not None and get(placeholder, 'type') == 'sldNum':
                continue
            body = child(shape, 'txBody')
            if body is not None:
                yield from body_paragraphs(body)
        elif name == 'pic':
            yield picture_description(properties) if properties is not None else ''
        elif name == 'graphicFrame':
            for table in descendants(shape, 'tbl'):
                yield from table_rows(table)
            yield from graphic_paragraphs(shape, package, relations)
        elif name in ('grpSp', 'twoCellAnchor', 'oneCellAnchor', 'absoluteAnchor'):
            yield from shape_paragraphs(shape, package, relations)


def graphic_paragraphs(node, package, relations):
    """Yields the texts of the charts and diagrams that an element refers to."""
    for graphic in descendants(node, 'chart', 'relIds'):
        reference = get(graphic, 'dm') if local(graphic) == 'relIds' else get(graphic, 'id')
        _kind, part = relations.get(reference, (None, None))
        tree = package.tree(part) if part else None
        if tree is None:
            continue
        for text in descendants(tree, 'p', 'strCache'):
            if local(text) == 'p':
                yield paragraph_text(text)
            else:
                yield ', '.join(value.text or '' for value in descendants(text, 'v'))

