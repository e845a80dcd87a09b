"""XML parts of zip archives, as Office and OpenDocument files have them. Nothing here needs Odoo."""

import posixpath
from urllib.parse import unquote

from lxml import etree

# The largest part that is parsed, in bytes. A tree takes about ten times the memory of its XML.
MAX_PART = 64 * 1024 * 1024


def xml_parser():
    """Returns a parser that reads no other file or address and expands no entity."""
    return etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)


def local(node):
    """Returns an element's name without its namespace. Strict and transitional files differ only in their
    namespaces."""
    tag = node.tag
    return tag.rpartition('}')[2] if isinstance(tag, str) else ''


def get(node, name):
    """Returns the value of an attribute, whatever its namespace; ``None`` where it is missing."""
    return next((value for key, value in node.items() if key.rpartition('}')[2] == name), None)


def child(node, *names):
    """Follows the first children of these names down the tree. Returns the last one; ``None`` where one is missing."""
    for name in names:
        node = next((inner for inner in node if local(inner) == name), None)
        if node is None:
            return None
    return node


def descendants(node, *names):
    """Yields all elements of these names within an element, outer ones before inner ones."""
    return (inner for inner in node.iter() if local(inner) in names)


def is_on(node):
    """Whether a property of Office is set: ``<w:vanish/>`` is, ``<w:vanish w:val="0"/>`` is not."""
    return node is not None and (get(node, 'val') or 'true').lower() not in ('0', 'false', 'off', 'none')


class Package:
    """The parts of an Office file (Open Packaging Conventions), and the relations between them.

    :param zipfile.ZipFile archive: the file
    """

    def __init__(self, archive):
        self.archive = archive
        self._names = set(archive.namelist())

    def __contains__(self, name):
        return name in self._names

    def read(self, name):
        """Returns the bytes of a part. Raises an error where it is longer than ``MAX_PART``."""
        if self.archive.getinfo(name).file_size > MAX_PART:
            raise ValueError(f"{name} has more than {MAX_PART // 1024**2} MB")
        return self.archive.read(name)

    def tree(self, name):
        """Returns the root element of a part; ``None`` where the file does not have it."""
        return etree.fromstring(self.read(name), xml_parser()) if name in self else None

    def relations(self, name):
        """Returns the relations of a part: by id, the last word of the type and the name of the other part. External
        ones are left out."""
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
        """Returns the name of the main part; ``None`` where there is none."""
        return next((path for kind, path in self.relations('').values() if kind == 'officeDocument'), None)

    def related(self, name, kind):
        """Yields the names of the parts that a part has a relation of this kind to."""
        return (path for of, path in self.relations(name).values() if of == kind and path in self)
