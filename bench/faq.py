#!/usr/bin/env python3
"""Writes the questions and answers of Python's FAQ, and the pages of its manual as other texts to search, as CSV: id,
question (empty for a page of the manual), text.

    faq.py .../html > faq.csv
"""
import csv, pathlib, re, sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tools"))
import pages


def text_of(html):
    text = pages.Text()
    text.feed(html)
    return re.sub(r"\s*\n\s*", "\n", "".join(text.out)).replace("¶", "").strip()


def main(folder):
    out, count = csv.writer(sys.stdout), 0
    for path in sorted(folder.glob("faq/*.html")):
        for part in re.split(r"(?=<h[1-6]>)", path.read_text(encoding="utf-8"))[1:]:
            heading, _, answer = part.partition("</h3>")
            question, answer = text_of(heading), text_of(re.split(r'<div class="clearer">|<div class="sphinxsidebar"', answer)[0])
            if heading.startswith("<h3>") and question.endswith("?") and answer:
                count += 1
                out.writerow([count, question, answer])
    for chapter in ("tutorial", "howto", "library", "reference", "using"):
        for path in sorted(folder.glob(f"{chapter}/*.html")):
            count += 1
            html = path.read_text(encoding="utf-8")
            out.writerow([count, "", text_of(html[html.index('role="main"') - 20:].split('<div class="sphinxsidebar"')[0])])


main(pathlib.Path(sys.argv[1]))
