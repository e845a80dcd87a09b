#!/usr/bin/env python3
"""What a title before each chunk gives, and how title and text are best put together: figures for the README of this folder.

    pip install 'psycopg[binary]'
    python3 bench/titles.py "host=/run/postgresql user=postgres dbname=mydb" PAGES.csv

The database has the extension. Chatbots 1 to 5 of it are DELETED, before and after. PAGES.csv (tools/pages.py makes it): id,
title, text. Of 110 pages of more than 7,000 characters the first 12,000 are cut into chunks, each of which is a source. 200
questions are made of chunks deep in a page: words of one of their sentences, with the page's title or without.
"""
import csv, random, re, statistics, sys
import psycopg

WAYS = {
    1: ("text", "{text}"),
    2: ("title, empty line, text", "{title}\n\n{text}"),
    3: ("title, full stop, text", "{title}. {text}"),
    4: ("title, colon, text", "{title}: {text}"),
    5: ("title twice, empty line, text", "{title}\n{title}\n\n{text}"),
}
KINDS = ["4 words of the text", "title and 4 words", "title and 2 words", "title"]
QUESTIONS = 200


def chunks_of(db, path):
    """Yields (page, title, place, text) of every chunk."""
    csv.field_size_limit(1 << 30)
    pages = [row for row in csv.reader(open(path, newline="")) if len(row[2]) > 7000]
    random.Random(7).shuffle(pages)
    for number, title, text in pages[:110]:
        title = re.sub(r"^((Chapter|Appendix|Part) )?[0-9A-Z]+(\.[0-9]+)*\.\s+", "", title)
        for place, chunk in db.execute("SELECT chunk_index, content FROM chatbot_chunk(%s)", [text[:12000]]):
            yield int(number), title, place, chunk


def questions_of(chunks):
    """Returns (chunk, page, a question of each kind) of chunks that are deep in their page."""
    chance, found = random.Random(3), []
    deep = [number for number, chunk in enumerate(chunks) if chunk[2] >= 3]
    chance.shuffle(deep)
    for number in deep:
        page, title, _, text = chunks[number]
        sentences = [s for s in re.split(r"(?<=[.!?])\s+", text[250:]) if 50 < len(s) < 200]
        of_title = set(re.findall(r"\w+", title.lower()))
        words = [w for w in re.findall(r"[A-Za-z]{4,}", sentences[len(sentences) // 2]) if w.lower() not in of_title] if sentences else []
        if len(words) > 4:
            picked = [words[at] for at in sorted(chance.sample(range(len(words)), 4))]
            four, two = " ".join(picked), " ".join(picked[:2])
            found.append((number, page, [four, f"{title} {four}", f"{title} {two}", title]))
    return found[:QUESTIONS]


def reciprocal(found, right):
    """Returns 1 / the rank of the right one among the first ten, or 0."""
    return 1 / (found.index(right) + 1) if right in found[:10] else 0


def main(connection, path):
    db = psycopg.connect(connection, autocommit=True)
    db.execute("SELECT chatbot_cleanup(i) FROM generate_series(1, 5) AS i")
    db.execute("SET chatbot_sync.chunk_size = 3000")
    chunks = list(chunks_of(db, path))
    for way, (_, form) in WAYS.items():
        for number, (_, title, _, text) in enumerate(chunks):
            db.execute("SELECT chatbot_embed_source(%s, 'document', %s, %s)", [way, number + 1, form.format(title=title, text=text)])
    questions = questions_of(chunks)
    for mode in ["hybrid", "vector", "text"]:
        for way, (name, _) in WAYS.items():
            figures = []
            for kind, of_kind in enumerate(KINDS):
                pages, places = [], []
                for number, page, by_kind in questions:
                    rows = db.execute("SELECT source_id FROM chatbot_search(%s, %s, 50, mode => %s)", [way, by_kind[kind], mode])
                    found = [row[0] - 1 for row in rows]
                    places.append(reciprocal(found, number))
                    pages.append(reciprocal(list(dict.fromkeys(chunks[at][0] for at in found)), page))
                figures.append(f"{of_kind}: {statistics.mean(pages):.3f} {statistics.mean(places):.3f}")
            print(f"{mode:<8}{name:<32}{'; '.join(figures)}", flush=True)
    db.execute("SELECT chatbot_cleanup(i) FROM generate_series(1, 5) AS i")


main(*sys.argv[1:])
