"""The text of HTML, as a reader of the page sees it.

The extension has its own reader of HTML (``content_format => 'html'``); both pass the cases in
``tests/html_cases.json``. This one uses lxml, which Odoo needs anyway.
"""

import codecs
import re

from lxml import etree
from lxml import html as lxml_html

NONE, SPACE, LINE, PARAGRAPH = range(4)
SEPARATORS = ('', ' ', '\n', '\n\n')


def _names(names):
    return frozenset(names.split())


# The gap that the start and the end of an element make, by a browser's default style sheet.
GAPS = {
    **dict.fromkeys(_names(
        'p h1 h2 h3 h4 h5 h6 ul ol dl menu dir table pre xmp listing blockquote title hr section article figure'
    ), PARAGRAPH),
    **dict.fromkeys(_names(
        'div li dt dd tr mtr caption header footer nav aside main form fieldset legend figcaption address details summary'
        ' option optgroup body head center hgroup search dialog thead tbody tfoot'
    ), LINE),
    **dict.fromkeys(_names(
        'td th mtd label button select input textarea output meter progress img svg video audio canvas object embed iframe'
    ), SPACE),
}
NEVER_SHOWN = _names('datalist noembed noframes noscript script style template')
NEVER_SHOWN_IN_DRAWINGS = _names(
    'annotation annotation-xml clippath defs desc filter lineargradient marker mask metadata pattern radialgradient script'
    ' style symbol title'
)
# Browsers play the video or draw the canvas, and do not show the text that is meant for those that cannot.
STANDS_IN = _names('audio canvas iframe video')
PREFORMATTED = _names('pre textarea listing xmp plaintext')
ENDS_PARAGRAPH = _names(
    'address article aside blockquote center dd details dialog dir div dl dt fieldset figcaption figure footer form h1 h2 h3'
    ' h4 h5 h6 header hgroup hr li listing main menu nav ol p plaintext pre search section summary table ul xmp'
)
# The values of ``display``: the gap that each makes (``None``: nothing is shown), and whether child elements are
# boxes side by side.
DISPLAYS = {
    **dict.fromkeys(_names('none table-column table-column-group'), (None, False)),
    **dict.fromkeys(_names('inline contents'), (NONE, False)),
    **dict.fromkeys(_names('inline-block inline-table table-cell'), (SPACE, False)),
    **dict.fromkeys(_names('inline-flex inline-grid'), (SPACE, True)),
    **dict.fromkeys(_names(
        'block flow-root list-item table table-row table-row-group table-header-group table-footer-group table-caption'
    ), (LINE, False)),
    **dict.fromkeys(_names('flex grid -webkit-box -webkit-flex -ms-flexbox'), (LINE, True)),
}
VISIBILITIES = {'visible': True, 'hidden': False, 'collapse': False}
WHITE_SPACES = {
    **dict.fromkeys(_names('pre pre-wrap pre-line break-spaces'), True), **dict.fromkeys(_names('normal nowrap'), False),
}
CONTENT_VISIBILITIES = {'hidden': True, 'visible': False, 'auto': False}
NO_LABEL = _names('hidden password checkbox radio file color range')

# A declaration of a style attribute; semicolons within quotes or parentheses are part of it.
DECLARATION = re.compile(r'''(?:[^;"'(]|"[^"]*(?:"|$)|'[^']*(?:'|$)|\((?:[^)"']|"[^"]*(?:"|$)|'[^']*(?:'|$))*(?:\)|$))+''')
COMMENT = re.compile(r'/\*.*?(?:\*/|$)', re.DOTALL)
WHITE_SPACE = re.compile('[ \t\n\f\r\xa0]+')

# Names of encodings and what browsers take them for.
LABELS = {
    'ascii': 'cp1252', 'us-ascii': 'cp1252', 'iso-8859-1': 'cp1252', 'latin1': 'cp1252', 'windows-1252': 'cp1252',
    'gb2312': 'gb18030', 'gbk': 'gb18030', 'shift_jis': 'cp932', 'shift-jis': 'cp932', 'sjis': 'cp932', 'x-sjis': 'cp932',
    'ks_c_5601-1987': 'cp949', 'euc-kr': 'cp949', 'iso-8859-9': 'cp1254', 'tis-620': 'cp874', 'x-gbk': 'gb18030',
    'utf-16': 'utf-8', 'utf-16le': 'utf-8', 'utf-16be': 'utf-8', 'unicode': 'utf-8',  # a tag that could be read is not in UTF-16
}
META = re.compile(
    rb'''<meta\s[^>]{0,1000}?charset\s*=\s*["']?\s*([\w.:-]+)|^\s*<\?xml\s[^>]{0,200}?encoding\s*=\s*["']([\w.:-]+)''', re.IGNORECASE,
)


class TooDeep(ValueError):
    """Elements are nested deeper than libxml2 reads. It would drop the rest without an error."""


def declared_encoding(data):
    """Returns the encoding that a page declares; ``None`` where it declares none or Python does not know it."""
    declared = META.search(data[:4096])
    if declared is None:
        return None
    label = (declared[1] or declared[2]).decode().lower()
    try:
        return codecs.lookup(LABELS.get(label, label)).name
    except LookupError:
        return None


def html_tree(text):
    """Parses HTML, valid or not. Returns the root element; ``None`` where it is empty."""
    parser = lxml_html.HTMLParser(no_network=True, huge_tree=True, encoding='utf-8')
    text = text.replace('\x00', '')
    if not text.strip():
        return None
    try:
        tree = lxml_html.document_fromstring(text.encode('utf-8', 'replace'), parser=parser)
    except etree.ParserError:  # only comments
        return None
    if any('Excessive depth' in entry.message for entry in parser.error_log):
        raise TooDeep("Its elements are nested too deep.")
    return tree


def html_text(text):
    """Returns the text of HTML, without hidden text and with words of neighbouring boxes kept apart.

    Paragraphs are separated by empty lines. Lines only end where a browser ends them at any window width.

    :param str text: HTML
    """
    tree = html_tree(text)
    if tree is None:
        return ''
    writer = _Writer()
    states = [_State()]
    previous = None  # the element that has just ended, if no text follows it
    for event, node in etree.iterwalk(tree, events=('start', 'end', 'comment', 'pi')):
        if event in ('comment', 'pi'):
            writer.add(node.tail or '', states[-1])
            continue
        if event == 'start':
            state = states[-1].within(node)
            states.append(state)
            writer.begin(node, state, after_link=previous == 'a')
            previous = None
            text = node.text or ''
            if node.tag in ('pre', 'textarea', 'listing'):
                text = text.removeprefix('\n')
        else:
            writer.widen(states.pop().gap)
            text = node.tail or ''
            previous = node.tag
        if text:
            writer.add(text, states[-1])
            previous = None
    return ''.join(writer.pieces)


def visible_tree(text):
    """Parses HTML and removes hidden elements. Returns the root element; ``None`` where nothing is left."""
    tree = html_tree(text)
    if tree is None:
        return None
    removed, states = [], [_State()]
    for event, node in etree.iterwalk(tree, events=('start', 'end')):
        if event == 'end':
            states.pop()
            continue
        states.append(states[-1].within(node))
        # Scripts are kept: trafilatura looks for structured data in them.
        if states[-1].removed and not states[-2].removed and node.tag not in ('script', 'style'):
            removed.append(node)
    for node in removed:
        node.drop_tree()
    return tree


class _State:
    """How text at a place is shown, all open elements included."""

    __slots__ = ('boxes', 'drawing', 'gap', 'parent', 'preformatted', 'removed', 'visible')

    def __init__(self):
        self.parent = None
        self.gap = NONE
        self.removed = self.preformatted = self.drawing = self.boxes = False
        self.visible = True

    def within(self, node):
        """Returns how text within an element is shown."""
        around = self
        name = node.tag
        parent = node.getparent()
        # libxml2 leaves some blocks in the paragraph that they end, whose style must not apply to them.
        if parent is not None and parent.tag == 'p' and name in ENDS_PARAGRAPH:
            around = self.parent
        inner = _State()
        inner.parent = around
        inner.drawing = name in ('svg', 'math') or (around.drawing and name != 'foreignobject')
        hidden = node.get('hidden')
        removed = hidden is not None and hidden.strip().lower() != 'until-found'
        removed |= name == 'dialog' and node.get('open') is None
        gap, preformatted, visible = GAPS.get(name, NONE), name in PREFORMATTED or None, None
        if style := node.get('style'):
            declarations = list(_declarations(style))
            if (display := _last(declarations, 'display', DISPLAYS)) is not None:
                shown, inner.boxes = display
                removed = shown is None
                if shown is not None:
                    gap = max(gap, LINE) if shown == LINE else shown
            removed |= _last(declarations, 'content-visibility', CONTENT_VISIBILITIES) is True
            visible = _last(declarations, 'visibility', VISIBILITIES)
            white_space = _last(declarations, 'white-space', WHITE_SPACES)
            preformatted = preformatted if white_space is None else white_space
        # A page often hides itself until a script shows it.
        if name in ('html', 'body', 'head'):
            removed, visible = False, None
        removed |= name in (NEVER_SHOWN_IN_DRAWINGS if around.drawing else NEVER_SHOWN)
        if name in STANDS_IN:
            visible = False
        inner.removed = around.removed or removed
        inner.visible = around.visible if visible is None else visible
        inner.preformatted = around.preformatted if preformatted is None else preformatted
        inner.gap = NONE if inner.removed else max(gap, SPACE) if around.boxes else gap
        return inner


class _Writer:
    """Joins texts with the largest gap between two of them."""

    def __init__(self):
        self.pieces = []
        self.gap = NONE

    def widen(self, gap):
        self.gap = max(self.gap, gap)

    def begin(self, node, state, *, after_link):
        if node.tag == 'br':
            if not state.removed:
                self.gap = PARAGRAPH if self.gap >= LINE else LINE
            return
        self.widen(state.gap)
        if after_link and node.tag == 'a':
            self.widen(SPACE)  # links of a menu, whose words would run together
        if (label := _label(node)) and not state.removed and state.visible:
            gap = max(state.gap, SPACE)
            self.widen(gap)
            self._add(label)
            self.widen(gap)

    def add(self, text, state):
        if not text or state.removed or not state.visible:
            return
        if state.preformatted:
            self._push(text.replace('\xad', '').replace('\xa0', ' '))
        else:
            self._add(text)

    def _add(self, text):
        text = text.replace('\xad', '')
        words = WHITE_SPACE.sub(' ', text)
        if words.startswith(' '):
            self.widen(SPACE)
        self._push(words.strip(' '))
        if words.endswith(' '):
            self.widen(SPACE)

    def _push(self, text):
        if not text:
            return
        if self.pieces:
            self.pieces.append(SEPARATORS[self.gap])
        self.gap = NONE
        self.pieces.append(text)


def _label(node):
    """Returns the text of an attribute that a reader sees: the value of a field or button, the alternative text of a
    picture."""
    name = node.tag
    if name == 'img':
        label = node.get('alt')
    elif name == 'optgroup':
        label = node.get('label')
    elif name == 'input':
        kind = (node.get('type') or '').strip().lower()
        if kind in NO_LABEL:
            label = None
        elif kind == 'image':
            label = node.get('alt')
        else:
            label = next(filter(str.strip, (node.get('value') or '', node.get('placeholder') or '')), None)
    else:
        label = None
    return label if label and label.strip() else None


def _declarations(style):
    """Yields the declarations of a style attribute: name, value, and whether it is marked ``!important``."""
    for declaration in DECLARATION.findall(COMMENT.sub('', style)):
        name, colon, value = declaration.partition(':')
        if colon:
            value, mark, important = value.strip().lower().rpartition('!')
            if not mark or important.strip() != 'important':
                value, mark = value + mark + important, ''
            yield name.strip().lower(), value.strip(), bool(mark)


def _last(declarations, name, meanings):
    """Returns the meaning of the value that applies: the last known one, or the last known one marked
    ``!important``."""
    found, found_important = None, False
    for declared, value, important in declarations:
        if declared == name and value in meanings and important >= found_important:
            found, found_important = meanings[value], important
    return found
