#!/usr/bin/env python3
"""What storing costs: ratios of times that one run measures side by side, since times alone say little on a busy machine.

    pip install 'psycopg[binary]' numpy model2vec
    python3 bench/store.py "host=/tmp/dev user=postgres dbname=postgres" [ROUNDS]

The first argument is a libpq connection string: a superuser's (CHECKPOINT), to a database that has the extension with
its settings at their defaults, and a table page (id bigint, title text, content text) that is not empty (see
tools/pages.py). Chatbots 2 to 9 of that database are deleted, before and after. Nothing is asserted about times.
"""
import json, pathlib, statistics, sys, time
import numpy, psycopg
from model2vec import StaticModel

ROOT = pathlib.Path(__file__).resolve().parents[1]
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 7
LATENCY_ROUNDS = max(30, 8 * ROUNDS)
TABLES = ("source", "embedding")
COLUMNS = """chatbot_id, source_type, source_id, model_id, chunk_id, chunk_index, start_offset, end_offset, content,
    embedding"""


def timed(work, *args):
    start = time.perf_counter()
    work(*args)
    return time.perf_counter() - start


def row(name, values, unit="x", target=""):
    values = [v * {"ms": 1e3, "x": 1, "s": 1, "/s": 1}[unit] for v in values]
    digits = 0 if unit == "/s" else 3
    low, middle, high = (f"{v:.{digits}f}" for v in (min(values), statistics.median(values), max(values)))
    print(f"{name:<52}{middle:>9} {unit:<3}{low:>9} .. {high:<9}{target}", flush=True)


def load_model():
    """The built-in model as model2vec reads it, and proof that it is the same model, weights and all."""
    model = StaticModel.from_pretrained(ROOT / "src/provider/local/data")
    cases = json.loads((ROOT / "tests/data/local_expected.json").read_text())
    got = model.encode([case["text"] for case in cases])
    far = numpy.abs(got - numpy.array([case["vector"] for case in cases])).max()
    if not far < 1e-4:
        sys.exit(f"model2vec's vectors differ from local_expected.json by {far}")
    return model


class Bench:
    def __init__(self, connection):
        self.db = psycopg.connect(connection, autocommit=True)
        # The planner takes a set-returning function for 1000 rows, and so a count over one for worth compiling.
        self.db.execute("SET jit = off")
        self.model = load_model()

    def one(self, sql, args=()):
        return self.db.execute(sql, args, prepare=True).fetchone()[0]

    def clean(self):
        for chatbot in range(2, 10):
            self.db.execute("SELECT chatbot_cleanup(%s)", [chatbot])
        # Gives the pages at the end back too: all runs find the tables as they were.
        self.db.execute("VACUUM chatbot_sync.source, chatbot_sync.embedding")

    def from_clean(self, work):
        """Times work that stores, and checks that it stored everything."""
        self.clean()
        self.db.execute("CHECKPOINT")
        seconds = timed(work)
        if hasattr(self, "chunks"):
            stored = self.one("SELECT count(*) FROM chatbot_sync.embedding WHERE chatbot_id IN (2, 3)")
            assert stored == len(self.chunks), f"{stored} chunks stored, not {len(self.chunks)}"
        return seconds

    # What is compared.

    def embed_source(self):
        self.db.execute("SELECT chatbot_embed_source(2, 'document', id, content) FROM page").fetchall()

    def embed_only(self):
        self.db.execute("SELECT count(chatbot_embed(c.content)) FROM page, chatbot_chunk(page.content) c")

    def copy_binary(self):
        with self.db.transaction(), self.db.cursor() as cursor:
            for table in TABLES:
                with cursor.copy(f"COPY chatbot_sync.{table} FROM STDIN (FORMAT BINARY)") as copy:
                    copy.write(self.finished[table])

    def python(self):
        """What an application would do: model2vec, then rows with the text form of the vector that pgvector's package has."""
        vectors = self.model.encode([chunk[-1] for chunk in self.chunks])
        texts = ("[" + ",".join(map(str, vector.tolist())) + "]" for vector in vectors)
        with self.db.transaction(), self.db.cursor() as cursor:
            sql = "INSERT INTO chatbot_sync.source (chatbot_id, source_type, source_id, status) VALUES (3, %s, %s, 'synced')"
            cursor.executemany(sql, [("document", source) for source in self.sources])
            sql = f"INSERT INTO chatbot_sync.embedding ({COLUMNS}) VALUES (3, 'document', %s, %s, %s, %s, %s, %s, %s, %s)"
            rows = ((source, self.model_id, index, index, *rest, text)
                    for (source, index, *rest), text in zip(self.chunks, texts))
            cursor.executemany(sql, rows)

    def prepare(self):
        """The inputs of all four, and proof that Python stores what the extension does. Warms everything up, too."""
        self.from_clean(self.embed_source)
        self.model_id = self.one("SELECT id FROM chatbot_sync.model WHERE active")
        self.sources = [id for id, in self.db.execute("SELECT id FROM page").fetchall()]
        sql = "SELECT id, chunk_index, start_offset, end_offset, c.content FROM page, chatbot_chunk(page.content) c"
        self.chunks = self.db.execute(sql).fetchall()
        self.finished = {}
        for table in TABLES:
            # In the order in which they were stored.
            sql = f"SELECT * FROM chatbot_sync.{table} WHERE chatbot_id = 2 ORDER BY ctid"
            with self.db.cursor().copy(f"COPY ({sql}) TO STDOUT (FORMAT BINARY)") as copy:
                self.finished[table] = b"".join(copy)
        self.python()
        same, far = self.db.execute("""SELECT count(*), max(a.embedding <-> b.embedding)
            FROM chatbot_sync.embedding a JOIN chatbot_sync.embedding b
                USING (source_id, source_type, model_id, chunk_id, chunk_index, start_offset, end_offset, content)
            WHERE a.chatbot_id = 2 AND b.chatbot_id = 3""").fetchone()
        if same != len(self.chunks) or far > 1e-4:
            sys.exit(f"Python stored other chunks: {same} of {len(self.chunks)} are the same, vectors up to {far} apart")

    def throughput(self):
        ours, copy, bare, python = [], [], [], []
        for _ in range(ROUNDS):
            ours.append(self.from_clean(self.embed_source))
            copy.append(self.from_clean(self.copy_binary))
            bare.append(timed(self.embed_only))
            python.append(self.from_clean(self.python))
        count = len(self.chunks)
        print(f"\n{len(self.sources)} pages, {count} chunks, {ROUNDS} rounds")
        row("embed_source", [count / t for t in ours], "/s")
        row("COPY BINARY of the finished rows", [count / t for t in copy], "/s")
        row("chunking and embedding alone", [count / t for t in bare], "/s")
        row("model2vec + executemany", [count / t for t in python], "/s")
        row("embed_source / COPY", [a / b for a, b in zip(ours, copy)])
        row("(embed_source - chunking and embedding) / COPY", [(a - c) / b for a, b, c in zip(ours, copy, bare)],
            target="target <= 1.3")
        row("Python / embed_source", [b / a for a, b in zip(ours, python)])

    def latency(self):
        # The text of exactly 100 chunks: long enough a text, cut where its hundredth chunk ends.
        text = self.one("SELECT string_agg(content, E'\\n\\n' ORDER BY id) FROM (SELECT * FROM page LIMIT 200) p")
        cut = "SELECT array_agg(end_offset ORDER BY chunk_index) FROM chatbot_chunk(%s, max_chunks => 100)"
        ends = self.one(cut, [text])
        short, long = text[: ends[0]], text[: ends[99]]
        sql = "SELECT chunks_created FROM chatbot_embed_source(4, 'document', %s, %s)"
        sync = lambda source, content: self.one(sql, [source, content])
        counts = sync(-1, short), sync(-2, long)
        times = []
        for n in range(LATENCY_ROUNDS):
            times.append((
                timed(self.one, "SELECT 1"),
                timed(sync, 2 * n, short),
                timed(sync, 2 * n + 1, long),
                timed(sync, 2 * n, short),
                timed(sync, 2 * n + 1, long),
            ))
        trip, short_first, long_first, short_again, long_again = zip(*times)
        print(f"\nSources of {counts[0]} and {counts[1]} chunks, {LATENCY_ROUNDS} rounds, each in a transaction of its own")
        row("SELECT 1", trip, "ms")
        row("short source, first sync", short_first, "ms")
        row("long source, first sync", long_first, "ms")
        row("short source, unchanged", short_again, "ms")
        row("long source, unchanged", long_again, "ms")
        row("long / short, first sync", [b / a for a, b in zip(short_first, long_first)])
        row("unchanged / first sync, long source", [b / a for a, b in zip(long_first, long_again)], target="target < 0.05")

    def run(self):
        print(f"{'':<52}{'median':>9} {'':<3}{'least':>9} .. most")
        try:
            self.prepare()
            self.throughput()
            self.clean()
            self.latency()
        finally:
            self.clean()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    Bench(sys.argv[1]).run()
