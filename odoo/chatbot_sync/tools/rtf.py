"""The text of RTF files: with headers, footers, notes, comments and text boxes, which striprtf loses, and without
hidden or deleted text and addresses of links, which it shows."""

import codecs
import re

TOKEN = re.compile(rb"\\([a-zA-Z]{1,32})(-?\d{1,10})? ?|\\'([0-9a-fA-F]{2})|\\([^a-zA-Z])|([{}])|[\r\n]+|([^\\{}\r\n]+)|.", re.DOTALL)

# Groups whose text is not shown, or is shown elsewhere.
SKIPPED = frozenset((
    'fonttbl', 'colortbl', 'stylesheet', 'info', 'pict', 'object', 'fldinst', 'listtable', 'listoverridetable', 'rsidtbl', 'generator',
    'themedata', 'colorschememapping', 'datastore', 'latentstyles', 'xmlnstbl', 'revtbl', 'mmathPr', 'bkmkstart', 'bkmkend',
    'datafield', 'xe', 'tc', 'rxe', 'txe', 'pntext', 'listtext', 'filetbl', 'private', 'passwordhash', 'atnid', 'atndate', 'atnref',
    'atnparent', 'sp', 'shprslt', 'nonesttables', 'atrfstart', 'atrfend', 'nonshppict', 'ftnsep', 'ftnsepc', 'ftncn', 'aftnsep', 'aftnsepc', 'aftncn', 'annotation_id',
))
# Groups that are marked as optional (``\*``) but are shown.
SHOWN = frozenset((
    'shpinst', 'shptxt', 'annotation', 'atnauthor', 'footnote', 'headerf', 'footerf', 'shppict', 'do', 'dptxbxtext', 'ud', 'moMath',
))
# Texts beside the main text, and where they are written: before it, after it, or after their paragraph.
ASIDE = {
    **dict.fromkeys(('header', 'headerl', 'headerr', 'headerf'), 'before'),
    **dict.fromkeys(('footer', 'footerl', 'footerr', 'footerf'), 'after'),
    **dict.fromkeys(('footnote', 'annotation', 'shptxt', 'dptxbxtext'), 'here'),
}
CHARACTERS = {
    'par': '\n\n', 'sect': '\n\n', 'page': '\n\n', 'row': '\n\n', 'nestrow': '\n\n', 'line': '\n', 'column': '\n', 'tab': '\t',
    'cell': '\t', 'nestcell': '\t', 'emdash': '—', 'endash': '–', 'lquote': '‘', 'rquote': '’', 'ldblquote': '“', 'rdblquote': '”',
    'bullet': '•', 'emspace': ' ', 'enspace': ' ', 'qmspace': ' ', 'softline': '\n',
}
SIGNS = {b'~': ' ', b'_': '-', b'{': '{', b'}': '}', b'\\': '\\', b'\n': '\n\n', b'\r': '\n\n'}
CHARSETS = {
    0: 'cp1252', 77: 'mac_roman', 128: 'cp932', 129: 'cp949', 130: 'johab', 134: 'gb18030', 136: 'cp950', 161: 'cp1253',
    162: 'cp1254', 163: 'cp1258', 177: 'cp1255', 178: 'cp1256', 186: 'cp1257', 204: 'cp1251', 222: 'cp874', 238: 'cp1250', 255: 'cp850',
}


class _Group:
    """The state that ends with its group."""

    __slots__ = ('deleted', 'encoding', 'hidden', 'optional', 'skipped', 'text', 'unicode_skip')

    def __init__(self, outer=None):
        self.optional = False
        self.text = None  # a text beside the main one: where it is written, and its pieces
        for name in ('deleted', 'encoding', 'hidden', 'skipped', 'unicode_skip'):
            setattr(self, name, getattr(outer, name, 1 if name == 'unicode_skip' else None))


def paragraphs(data):
    """Yields the paragraphs of an RTF file: headers, then the text with its notes and comments, then footers.

    :param bytes data: the file
    """
    reader = _Reader()
    for match in TOKEN.finditer(data):
        reader.token(match)
    reader.flush()
    reader.main += ['\n\n', *reader.pending]
    for pieces in (reader.before, reader.main, reader.after):
        for text in re.split(r'\n\n+', ''.join(pieces)):
            yield text.strip(' \n').rstrip('\t')


class _Reader:
    def __init__(self):
        self.before, self.main, self.after = [], [], []
        self.groups = [_Group()]
        self.groups[0].encoding = self.encoding = 'cp1252'
        self.fonts = {}
        self.font = None  # the font whose charset comes next
        self.bytes = bytearray()  # text in a code page
        self.units = bytearray()  # text in UTF-16
        self.to_skip = 0  # characters that replace one in Unicode, still to be skipped
        self.resume = 0  # the offset where raw bytes end
        self.targets = [self.main]
        self.pending = []  # notes of the current paragraph
        self.author = None

    def token(self, match):
        if match.start() < self.resume:
            return
        word, number, code, sign, brace, text = match.groups()
        group = self.groups[-1]
        if brace == b'{':
            self.flush()
            self.groups.append(_Group(group))
        elif brace == b'}':
            self.flush()
            if len(self.groups) > 1:
                self.end(self.groups.pop())
        elif word is not None:
            self.word(word.decode(), int(number) if number else None, group, match.end())
        elif code is not None:
            self.raw(bytes.fromhex(code.decode()), group)
        elif sign == b'*':
            group.optional = True
        elif sign is not None:
            self.flush()
            self.write(SIGNS.get(sign, ''), group)
        elif text is not None:
            self.raw(text, group)

    def word(self, word, number, group, end):
        if group.optional:
            group.optional = False
            if word not in SHOWN:
                group.skipped = True
        if word in ('u', 'bin'):
            if word == 'bin':
                self.resume = end + max(number or 0, 0)
            elif number is not None:
                self.flush(keep_units=True)
                if not group.skipped and not group.hidden and not group.deleted:
                    self.units += (number & 0xFFFF).to_bytes(2, 'little')
                self.to_skip = group.unicode_skip
            return
        self.flush()
        self.to_skip = 0
        if word in SKIPPED:
            if word == 'fonttbl':
                self.font = 0
            group.skipped = True
        elif word in ('f', 'fcharset', 'cpg') and group.skipped and self.font is not None:
            self._define_font(word, number)
        elif word == 'result':
            group.skipped = False  # how an embedded object is shown
        elif word == 'upr':
            group.skipped = True  # the same text follows in Unicode
        elif word == 'ud':
            group.skipped = False
        elif word == 'atnauthor':
            group.text = ('author', [])
            self.targets.append(group.text[1])
        elif word in ASIDE and group.text is None and not group.skipped:
            group.text = (ASIDE[word] if word != 'annotation' else 'comment', [])
            self.targets.append(group.text[1])
        elif word == 'ansicpg':
            self.encoding = group.encoding = _known(f'cp{number}')
        elif word in ('mac', 'pc', 'pca'):
            self.encoding = group.encoding = {'mac': 'mac_roman', 'pc': 'cp437', 'pca': 'cp850'}[word]
        elif word == 'f':
            group.encoding = self.fonts.get(number, self.encoding)
        elif word == 'uc':
            group.unicode_skip = max(number or 0, 0)
        elif word == 'v':
            group.hidden = number != 0
        elif word == 'deleted':
            group.deleted = number != 0
        elif word == 'plain':
            group.hidden, group.deleted, group.encoding = False, False, self.encoding
        elif word in CHARACTERS:
            self.write(CHARACTERS[word], group)
            if word in ('par', 'sect', 'row') and self.targets[-1] is self.main:
                self.main.extend(self.pending)
                self.pending.clear()

    def _define_font(self, word, number):
        if word == 'f':
            self.font = number
        else:
            encoding = CHARSETS.get(number) if word == 'fcharset' else _known(f'cp{number}')
            if encoding:
                self.fonts[self.font] = encoding

    def end(self, group):
        if group.text is None:
            return
        place, pieces = group.text
        self.targets.pop()
        text = ''.join(pieces).strip()
        if place == 'author':
            self.author = text
        elif place == 'before':
            self.before += [text, '\n\n']
        elif place == 'after':
            self.after += [text, '\n\n']
        elif text:
            if place == 'comment':
                text = f'Comment by {self.author}: {text}' if self.author else f'Comment: {text}'
                self.author = None
            self.pending.append(f'{text}\n\n')

    def raw(self, data, group):
        """Adds bytes in the code page of their font, without those that only replace a character in Unicode."""
        if self.to_skip:
            skipped = min(self.to_skip, len(data))
            self.to_skip -= skipped
            data = data[skipped:]
        if data:
            if self.units:
                self.flush()
            self.bytes += data

    def flush(self, *, keep_units=False):
        """Decodes the bytes collected so far; a character may have several."""
        if self.bytes:
            text = self.bytes.decode(self.groups[-1].encoding or 'cp1252', errors='replace')
            self.bytes.clear()
            self.write(text, self.groups[-1])
        if self.units and not keep_units:
            text = self.units.decode('utf-16-le', errors='replace')
            self.units.clear()
            self.write(text, self.groups[-1])

    def write(self, text, group):
        if text and not (group.skipped or group.hidden or group.deleted):
            self.targets[-1].append(text)


def _known(encoding):
    encoding = 'utf-8' if encoding == 'cp65001' else encoding
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        return 'cp1252'
