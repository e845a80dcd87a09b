#!/usr/bin/env python3
"""Measures what storing costs, as ratios of times that one run measures in turns: on a busy machine absolute times
say little.

    pip install 'psycopg[binary]' numpy model2vec
    python3 bench/store.py "host=/run/postgresql user=postgres dbname=mydb" [ROUNDS]

The first argument is a libpq connection string of a superuser (for CHECKPOINT), for a database with a release build
of the extension with default settings, and a table page (id bigint, title text, content text) of some hundred pages
(tools/pages.py makes one). Chatbots 2 to 9 of that database are DELETED, before and after. Only the stored data is
asserted, never a time.
"""
import json, sys
import numpy, psycopg
from common import ROOT, heading, row, timed
from model2vec import StaticModel

ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 15
LATENCY_ROUNDS = max(30, 4 * ROUNDS)
TABLES = "source", "embedding"


def load_model():
    """The English built-in model as model2vec reads it, and proof that it is that model, weights and all."""
    model = StaticModel.from_pretrained(ROOT / "src/embedding/local/data/minilm-static-256")
    cases = json.loads((ROOT / "tests/data/local_expected.json").read_text())
    got = model.encode([case["text"] for case in cases])
    far = numpy.abs(got - numpy.array([case["vector"] for case in cases])).max()
    if not far < 1e-4:
        sys.exit(f"model2vec's vectors are up to {far} away from those of local_expected.json")
    return model


class Bench:
    def __init__(self, connection):
        self.model = load_model()
        self.db = psycopg.connect(connection, autocommit=True)
        # The planner expects 1000 rows of a set-returning function, and would JIT-compile a query over many pages.
        self.db.execute("SET jit = off")
        # Python and the database embed with the same model.
        self.db.execute("SELECT chatbot_set_model('local', 'minilm-static-256')")

    def one(self, sql, *args):
        """Returns the first column of one row, with a prepared statement."""
        return self.db.execute(sql, args, prepare=True).fetchone()[0]

    def clean(self):
        for chatbot in range(2, 10):
            self.one("SELECT status FROM chatbot_cleanup(%s)", chatbot)
        # This also truncates the tables' ends, so that every run starts alike.
        self.db.execute("VACUUM chatbot_sync.source, chatbot_sync.embedding")
        self.db.execute("CHECKPOINT")

    def stored(self, work):
        """Returns the seconds of work that stores all chunks in empty tables."""
        self.clean()
        seconds = timed(work)
        count = self.one("SELECT count(*) FROM chatbot_sync.embedding WHERE chatbot_id IN (2, 3)")
        assert count == len(self.chunks), f"{count} chunks stored, not {len(self.chunks)}"
        return seconds

    def embed_source(self):
        self.db.execute("SELECT chatbot_embed_source(2, 'document', id, content) FROM page").fetchall()

    def embed_only(self):
        self.one("SELECT count(chatbot_embed(c.content)) FROM page, chatbot_chunk(page.content) c")

    def copy_binary(self):
        with self.db.transaction(), self.db.cursor() as cursor:
            for table in TABLES:
                with cursor.copy(f"COPY chatbot_sync.{table} FROM STDIN (FORMAT BINARY)") as copy:
                    copy.write(self.finished[table])

    def python(self):
        """As an application does it: model2vec, and rows with vectors written by pgvector's own package."""
        vectors = self.model.encode([chunk[-1] for chunk in self.chunks])
        texts = ("[" + ",".join(map(str, vector.tolist())) + "]" for vector in vectors)
        with self.db.transaction(), self.db.cursor() as cursor:
            sql = """INSERT INTO chatbot_sync.source (chatbot_id, source_type, source_id, status)
                VALUES (3, 'document', %s, 'synced')"""
            cursor.executemany(sql, [(source,) for source in self.sources])
            sql = """INSERT INTO chatbot_sync.embedding (chatbot_id, source_type, model_id, embedding,
                    source_id, chunk_id, chunk_index, start_offset, end_offset, content)
                VALUES (3, 'document', %s, %s, %s, %s, %s, %s, %s, %s)"""
            cursor.executemany(sql, ((self.model_id, text, *chunk) for text, chunk in zip(texts, self.chunks)))

    def prepare(self):
        """Prepares the inputs of all four ways and warms up. Checks that Python stores the same rows as the
        extension."""
        self.clean()
        self.embed_source()
        self.model_id = self.one("SELECT id FROM chatbot_sync.model WHERE active")
        self.sources = [source for source, in self.db.execute("SELECT id FROM page")]
        sql = """SELECT id, chunk_index, chunk_index, start_offset, end_offset, c.content
            FROM page, chatbot_chunk(page.content) c"""
        self.chunks = self.db.execute(sql).fetchall()
        self.finished = {}
        for table in TABLES:
            # In the order in which they are stored.
            sql = f"SELECT * FROM chatbot_sync.{table} WHERE chatbot_id = 2 ORDER BY ctid"
            with self.db.cursor() as cursor, cursor.copy(f"COPY ({sql}) TO STDOUT (FORMAT BINARY)") as copy:
                self.finished[table] = b"".join(copy)
        self.python()
        sql = """SELECT count(*), max(a.embedding <-> b.embedding)
            FROM chatbot_sync.embedding a JOIN chatbot_sync.embedding b
                USING (source_type, source_id, model_id, chunk_id, chunk_index, start_offset, end_offset, content)
            WHERE a.chatbot_id = 2 AND b.chatbot_id = 3"""
        same, far = self.db.execute(sql).fetchone()
        assert same == len(self.chunks) and far < 1e-4, f"Python stores {same} equal chunks, vectors up to {far} away"

    def throughput(self):
        ours, copy, bare, python = [], [], [], []
        for _ in range(ROUNDS):
            # Measured before and after the time that it is subtracted from: the difference is small, and drift would
            # distort it.
            before = timed(self.embed_only)
            ours.append(self.stored(self.embed_source))
            bare.append((before + timed(self.embed_only)) / 2)
            copy.append(self.stored(self.copy_binary))
            python.append(self.stored(self.python))
        count = len(self.chunks)
        print(f"\n{len(self.sources)} pages, {count} chunks, {ROUNDS} rounds")
        for name, times in (("embed_source", ours), ("chunking and embedding alone", bare),
                            ("COPY BINARY of the finished rows", copy), ("model2vec + executemany", python)):
            row(name, [count / t for t in times], "/s")
        row("embed_source / COPY", [a / b for a, b in zip(ours, copy)])
        store = [(a - b) / c for a, b, c in zip(ours, bare, copy)]
        row("(embed_source - chunking and embedding) / COPY", store, target="target <= 1.3")
        row("model2vec + executemany / embed_source", [b / a for a, b in zip(ours, python)])

    def latency(self):
        # A text of 100 chunks: a longer one, cut at the end of its hundredth chunk.
        text = self.one("SELECT string_agg(content, E'\\n\\n' ORDER BY id) FROM (SELECT * FROM page LIMIT 200) p")
        ends = self.one("SELECT array_agg(end_offset ORDER BY chunk_index) FROM chatbot_chunk(%s)", text)
        short, long = text[: ends[0]], text[: ends[-1]]
        sql = "SELECT chunks_created FROM chatbot_embed_source(4, 'document', %s, %s)"
        counts = self.one(sql, 1, short), self.one(sql, 2, long)
        rounds = []
        for n in range(3, 2 * LATENCY_ROUNDS + 3, 2):
            # Two new sources in each round; the second call finds them unchanged.
            works = ("SELECT 1",), (sql, n, short), (sql, n + 1, long), (sql, n, short), (sql, n + 1, long)
            rounds.append([timed(self.one, *work) * 1000 for work in works])
        trip, short_new, long_new, short_same, long_same = zip(*rounds)
        print(f"\nA source of {counts[0]} and one of {counts[1]} chunks, {LATENCY_ROUNDS} rounds, all autocommitted")
        for name, times in (("SELECT 1", trip), ("1-chunk source, first sync", short_new),
                            ("1-chunk source, unchanged", short_same), ("100-chunk source, first sync", long_new),
                            ("100-chunk source, unchanged", long_same)):
            row(name, times, "ms")
        row("100-chunk / 1-chunk source, first sync", [b / a for a, b in zip(short_new, long_new)])
        again = [b / a for a, b in zip(long_new, long_same)]
        row("unchanged / first sync, 100-chunk source", again, target="target < 0.05")

    def spread(self):
        """Writes rows of one chatbot in one statement, and of many chatbots, which are stored by one statement for
        each."""
        self.db.execute("SET synchronous_commit = off")
        self.db.execute("DROP TABLE IF EXISTS spread")
        self.db.execute("CREATE TABLE spread (id bigserial PRIMARY KEY, chatbot_id bigint, content text)")
        self.db.execute("SELECT chatbot_attach('spread', 'link')")
        insert = "INSERT INTO spread (chatbot_id, content) SELECT %s + n %% %s, %s || n FROM generate_series(1, 50) AS n"
        text = self.one("SELECT content FROM chatbot_chunk((SELECT content FROM page LIMIT 1)) LIMIT 1")
        works = {
            "INSERT": lambda first, chatbots: self.db.execute(insert, [first, chatbots, text], prepare=True),
            "UPDATE": lambda first, chatbots: self.db.execute("UPDATE spread SET content = content || 'x' WHERE chatbot_id >= %s AND chatbot_id < %s", [first, first + chatbots], prepare=True),
            "DELETE": lambda first, chatbots: self.db.execute("DELETE FROM spread WHERE chatbot_id >= %s AND chatbot_id < %s", [first, first + chatbots], prepare=True),
        }
        times = {(name, chatbots): [] for name in works for chatbots in (1, 50)}
        try:
            for _ in range(LATENCY_ROUNDS):
                for name, work in works.items():
                    for first, chatbots in ((100, 1), (200, 50)):
                        times[name, chatbots].append(timed(work, first, chatbots) * 1000)
        finally:
            self.db.execute("SELECT chatbot_detach('spread', true)")
            self.db.execute("DROP TABLE spread")
        print(f"\n50 rows of 1 chunk in one statement, {LATENCY_ROUNDS} rounds, no commit waits for the disk")
        for name in works:
            row(f"{name}, 1 chatbot", times[name, 1], "ms")
            row(f"{name}, 50 chatbots / 1 chatbot", [b / a for a, b in zip(times[name, 1], times[name, 50])])

    def run(self):
        heading()
        try:
            self.prepare()
            self.throughput()
            self.clean()
            self.latency()
            self.spread()
        finally:
            self.clean()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    Bench(sys.argv[1]).run()
