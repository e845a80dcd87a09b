"""XML within archives, as Office and OpenDocument files have it. Nothing here needs Odoo."""

import posixpath
from urllib.parse import unquote

from lxml import etree

# A tree takes about ten times the memory of its XML. Longer parts than this are no texts.
MAX_PART = 64 * 1024 * 1024


def xml_parser():
    """Returns a parser that reads nothing but its input, and expands no entity."""
    return etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)


def local(node):
    """Returns an element's name without its namespace: strict and transitional files differ in that only."""
    tag = node.tag
    return tag.rpartition('}')[2] if isinstance(tag, str) else ''


def get(node, name):
    """Returns an attribute by its name without its namespace."""
    return next((value for key, value in node.items() if key.rpartition('}')[2] == name), None)


def child(node, *names):
    """Returns the first child of the first child ... of these names, ``None`` where there is none."""
    for name in names:
        node = next((inner for inner in node if local(inner) == name), None)
        if node is None:
            return None
    return node


def descendants(node, *names):
    """Yields the elements of these names in an element, the outer before the inner."""
    return (inner for inner in node.iter() if local(inner) in names)


def is_on(node):
    """Whether a property of Office is set: ``<w:vanish/>`` is, ``<w:vanish w:val="0"/>`` is not."""
    return node is not None and (get(node, 'val') or 'true').lower() not in ('0', 'false', 'off', 'none')


class Package:
    """The parts of an Office file (Open Packaging Conventions), and what each refers to.

    :param zipfile.ZipFile archive: the file
    """

    def __init__(self, archive):
        self.archive = archive
        self._names = set(archive.namelist())

    def __contains__(self, name):
        return name in self._names

    def read(self, name):
        """Returns the bytes of a part."""
        if self.archive.getinfo(name).file_size > MAX_PART:
            raise ValueError(f"{name} has more than {MAX_PART // 1024**2} MB")
        return self.archive.read(name)

    def tree(self, name):
        """Returns the root element of a part, ``None`` where the file does not have it."""
        return etree.fromstring(self.read(name), xml_parser()) if name in self else None

    def relations(self, name):
        """Returns what a part refers to: the last word of the type and the name of the part, by id."""
        folder, file = posixpath.split(name)
        tree = self.tree(posixpath.join(folder, '_rels', f'{file}.rels'))
        found = {}
        for node in tree if tree is not None else ():
            if get(node, 'TargetMode') != 'External':
                target = unquote(get(node, 'Target') or '')
                path = target.lstrip('/') if target.startswith('/') else posixpath.normpath(posixpath.join(folder, target))
                found[get(node, 'Id')] = ((get(node, 'Type') or '').rpartition('/')[2], path)
        return found

    def main(self):
        """Returns the name of the part that the file is about."""
        return next((path for kind, path in self.relations('').values() if kind == 'officeDocument'), None)

    def related(self, name, kind):
        """Yields the names of the parts of a kind that a part refers to."""
        return (path for of, path in self.relations(name).values() if of == kind and path in self)
