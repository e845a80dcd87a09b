"""Tables as text: one paragraph for each row, each value with the name of its column, so that a row can be understood
alone."""

import collections
import csv
import io
import itertools
import re

NUMBER = re.compile(r"[-+(]?\W{0,3}\d[\d.,:/'\s-]*\W{0,3}\)?")
MAX_NAME = 100  # the largest length of a column name, in characters
DELIMITERS = ',;\t|'

csv.field_size_limit(20_000_000)  # Python's limit of 128 kB would make longer fields an error


def table_paragraphs(rows):
    """Yields the rows of a table as paragraphs.

    The first row with more than one cell has the column names, if all of its cells may be names. Rows above it are
    titles.

    :param rows: yields rows as dicts of texts by the number of their column
    """
    names, begun = {}, False
    for row in rows:
        row = {column: text.strip() for column, text in row.items() if text and text.strip()}
        if not row:
            continue
        if not begun and len(row) > 1:
            begun = True
            if _are_names(list(row.values())):
                names, held = row, row
                following = next((_filled(other) for other in rows if _filled(other)), None)
                if following is None:
                    yield '\t'.join(held.values())
                    return
                row = following
        yield '\n'.join(f'{names[column]}: {text}' if column in names else text for column, text in row.items()) if names \
            else '\t'.join(row.values())


def _filled(row):
    return {column: text.strip() for column, text in row.items() if text and text.strip()}


def _are_names(texts):
    return len(set(texts)) == len(texts) and not any(
        len(text) > MAX_NAME or '\n' in text or NUMBER.fullmatch(text) for text in texts
    )


def csv_paragraphs(text):
    """Yields the rows of delimiter-separated text as paragraphs."""
    first, _newline, rest = text.partition('\n')
    if told := re.fullmatch(r'sep=(.)\r?', first):  # written by Excel
        delimiter, text = told[1], rest
    else:
        delimiter = _delimiter(text)
    if delimiter is None:
        yield from text.split('\n\n')
        return
    yield from table_paragraphs(dict(enumerate(row)) for row in csv.reader(io.StringIO(text, newline=''), delimiter=delimiter))


def _delimiter(text):
    """Returns the delimiter with which most rows have the same number of values; ``None`` where there is none."""
    best = (0, 0, None)
    for delimiter in DELIMITERS:
        reader = csv.reader(io.StringIO(text[:200_000], newline=''), delimiter=delimiter)
        widths = collections.Counter(len(row) for row in itertools.islice(reader, 100) if row)
        [(width, count)] = widths.most_common(1) or [(0, 0)]
        if width > 1:
            best = max(best, (count / widths.total(), width, delimiter), key=lambda score: score[:2])
    return best[2]
