"""The text of slides (PPTX), slide by slide, with the text of their masters and notes.

python-pptx loses charts, diagrams, comments and masters, and does not say what is hidden.
"""

from .archive import child, descendants, get, local
from .drawing import body_paragraphs, shape_paragraphs


def paragraphs(package):
    """Yields the paragraphs of a presentation. Hidden slides are left out.

    :param Package package: the file
    """
    main = package.main() or 'ppt/presentation.xml'
    presentation = package.tree(main)
    if presentation is None:
        raise ValueError("no presentation in it")
    relations = package.relations(main)
    said = set()
    for reference in descendants(presentation, 'sldId'):
        # The attribute without a namespace, also called "id", is the slide's number.
        target = next((value for key, value in reference.items() if key.endswith('}id')), None)
        _kind, name = relations.get(target, (None, None))
        slide = package.tree(name) if name else None
        if slide is None or (get(slide, 'show') or 'true').lower() in ('0', 'false'):
            continue
        yield from _shapes(package, name, slide)
        for layout in package.related(name, 'slideLayout'):
            masters = package.related(layout, 'slideMaster')
            for part in (layout, *masters):
                yield from _background(package, part, said)
        for notes in package.related(name, 'notesSlide'):
            yield from _notes(package.tree(notes))
        for comments in package.related(name, 'comments'):
            yield from _comments(package.tree(comments))


def _shapes(package, name, slide):
    tree = child(slide, 'cSld', 'spTree')
    if tree is not None:
        yield from shape_paragraphs(tree, package, package.relations(name))


def _background(package, name, said):
    """Yields the texts of a layout or master, once for all slides. Its placeholders are not shown, so they are left
    out."""
    if name in said:
        return
    said.add(name)
    root = package.tree(name)
    tree = child(root, 'cSld', 'spTree')
    if tree is None:
        return
    for shape in list(tree):
        if next(iter(descendants(shape, 'ph')), None) is not None:
            tree.remove(shape)
    yield from shape_paragraphs(tree, package, package.relations(name))


def _notes(root):
    for shape in descendants(root, 'sp'):
        placeholder = next(iter(descendants(shape, 'ph')), None)
        if placeholder is not None and get(placeholder, 'type') == 'body' and child(shape, 'txBody') is not None:
            yield from body_paragraphs(child(shape, 'txBody'))


def _comments(root):
    for comment in descendants(root, 'cm'):
        for text in comment:
            if local(text) == 'text':
                yield f'Comment: {text.text or ""}'
            elif local(text) == 'txBody':
                yield f'Comment: {" ".join(body_paragraphs(text))}'
