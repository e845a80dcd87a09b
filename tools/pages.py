#!/usr/bin/env python3
"""Prints text files and HTML pages of a folder as CSV: id, title, content.

    pages.py FOLDER... > pages.csv
"""
import csv, html.parser, pathlib, re, sys

BLOCKS = {"p", "div", "li", "dt", "dd", "tr", "pre", "h1", "h2", "h3", "h4", "h5", "h6", "br", "table", "ul", "ol", "dl"}
SKIPPED = {"script", "style", "head"}


class Text(html.parser.HTMLParser):
    """The readable text of a page, with a line break for each block and without DocBook's navigation."""

    def __init__(self):
        super().__init__()
        self.out, self.title, self.skip, self.pre, self.in_title = [], "", 0, 0, False

    def handle_starttag(self, tag, attrs):
        navigation = (dict(attrs).get("class") or "") in ("navheader", "navfooter")
        if self.skip or tag in SKIPPED or navigation:
            self.skip += tag in SKIPPED | {"div"}
        self.in_title |= tag == "title"
        self.pre += tag == "pre"
        if tag in BLOCKS:
            self.out.append("\n\n" if tag in ("p", "div") else "\n")

    def handle_endtag(self, tag):
        if self.skip and tag in SKIPPED | {"div"}:
            self.skip -= 1
        self.in_title &= tag != "title"
        self.pre -= tag == "pre"
        if tag in BLOCKS:
            self.out.append("\n")

    def handle_data(self, data):
        if self.in_title:
            self.title += data
        elif not self.skip:
            self.out.append(data if self.pre else re.sub(r"\s+", " ", data))


def page(path):
    raw = path.read_text(encoding="utf-8", errors="replace").replace("\0", "")
    if path.suffix not in (".html", ".htm"):
        return path.stem, raw
    text = Text()
    text.feed(raw)
    lines = re.sub(r"[ \t\u00a0]*\n[ \t\u00a0]*", "\n", "".join(text.out))
    return " ".join(text.title.split()) or path.stem, re.sub(r"\n{3,}", "\n\n", lines).strip()


def main():
    out = csv.writer(sys.stdout)
    inputs = [pathlib.Path(f) for f in sys.argv[1:]]
    paths = sorted(p for f in inputs for p in (f.rglob("*") if f.is_dir() else [f]))
    paths = [p for p in paths if p.is_file() and p.suffix in (".html", ".htm", ".txt", ".md")]
    count = 0
    for path in paths:
        title, content = page(path)
        if len(content) > 200 and "bookindex" not in path.name:
            count += 1
            out.writerow([count, title, content])
    print(count, file=sys.stderr)


if __name__ == "__main__":
    main()
