#!/usr/bin/env python3
"""Measures the quality and speed of searches: the figures for bench/README.md.

    pip install 'psycopg[binary]' numpy rank_bm25 snowballstemmer
    python3 bench/search.py quality "host=/run/postgresql user=postgres dbname=mydb" PAGES.csv FAQ.csv
    python3 bench/search.py speed "host=/run/postgresql user=postgres dbname=mydb" [CHUNKS/CHATBOTS...]

The database has a release build of the extension with default settings, and a table page (tools/pages.py makes one).
Everything that chatbot_sync has stored in it is DELETED, before and after. PAGES.csv and FAQ.csv have id, title,
text; each title is a question whose answer is the text.
"""
import csv, functools, pathlib, re, statistics, struct, subprocess, sys, time
import numpy, psycopg

ANSWERS = 10
# The largest number of questions; of a larger set every n-th one is used.
QUESTIONS = 150
# How often each title is searched for, after a first search that is not measured.
TURNS = 3
# Seconds: an exact search that takes longer is not compared with others.
SLOW = 0.3
WEIGHTS = [n / 10 for n in range(11)]


def connect(connection):
    db = psycopg.connect(connection, autocommit=True)
    db.execute("LOAD 'chatbot_sync'")
    db.execute("SET jit = off")
    return db


def clean(db):
    """Deletes everything that the extension has stored."""
    for chatbot, in db.execute("SELECT DISTINCT chatbot_id FROM chatbot_sync.source").fetchall():
        db.execute("SELECT chatbot_cleanup(%s)", [chatbot])
    if db.execute("SELECT EXISTS (SELECT FROM chatbot_sync.model)").fetchone()[0]:
        db.execute("SELECT chatbot_drop_index()")
    db.execute("TRUNCATE chatbot_sync.source, chatbot_sync.embedding, chatbot_sync.sync_log")


# Quality

def questions_of(path):
    """Returns all texts, and the questions: (id, title, text without its title) where both are long enough and the
    title is unique."""
    csv.field_size_limit(1 << 30)
    rows = []
    for number, title, text in csv.reader(open(path, newline="")):
        question = re.sub(r"^((Chapter|Appendix|Part) )?[0-9A-Z]+(\.[0-9]+)*\.\s+", "", title)
        text = text.replace(title, "", 1).strip()
        rows.append((int(number), question, text if len(text) > 100 else ""))
    titles = [row[1] for row in rows]
    return [row for row in rows if row[2]], [row for row in rows if row[2] and titles.count(row[1]) == 1 and " " in row[1]]


def scores(ranks):
    """Returns MRR@10 and recall@5 of ranks, which begin with 0; ``None``: not found."""
    return statistics.mean(0 if r is None else 1 / (r + 1) for r in ranks), statistics.mean(r is not None and r < 5 for r in ranks)


def rank(sources, right):
    """Returns the rank of a source among the first ten different ones; ``None`` where it is not among them."""
    seen = list(dict.fromkeys(sources))[:ANSWERS]
    return seen.index(right) if right in seen else None


def print_scores(name, ranks):
    mrr, recall = scores(ranks)
    print(f"{name:<58}{mrr:9.3f}{recall:9.3f}", flush=True)


def quality(connection, *paths):
    from rank_bm25 import BM25Okapi
    from snowballstemmer import stemmer
    db, stem = connect(connection), functools.cache(stemmer("english").stemWord)
    shared = subprocess.run([db.execute("SELECT setting FROM pg_config WHERE name = 'BINDIR'").fetchone()[0] + "/pg_config", "--sharedir"],
                            capture_output=True, text=True, check=True).stdout.strip()
    stop = set((pathlib.Path(shared) / "tsearch_data/english.stop").read_text().split())

    def words(text):
        return [stem(word) for word in re.findall(r"\w+", text.lower()) if word not in stop]

    for path in paths:
        texts, questions = questions_of(path)
        questions = questions[::-(-len(questions) // QUESTIONS)]
        clean(db)
        db.execute("SET chatbot_sync.text_search_config = 'english'; SET chatbot_sync.max_chunks = 1000")
        with db.cursor() as cursor:
            cursor.executemany("SELECT chatbot_embed_source(1, 'document', %s, %s)", [(number, text) for number, _, text in texts])
        chunks = db.execute("SELECT source_id, chunk_index, content, embedding::real[] FROM chatbot_sync.embedding").fetchall()
        place = {(source, at): n for n, (source, at, _, _) in enumerate(chunks)}
        vectors = numpy.array([vector for *_, vector in chunks], dtype=numpy.float32)
        sources = [source for source, *_ in chunks]
        print(f"\n{path}: {len(questions)} questions, {len(texts)} texts, {len(chunks)} chunks\n{'':<58}{'MRR@10':>9}{'R@5':>9}")
        found = {mode: [] for mode in ("text", "vector", "hybrid", "ts_rank", "bm25", "by index")}
        fused = {weight: [] for weight in WEIGHTS}
        bm25 = BM25Okapi([words(text) for _, _, text, _ in chunks])
        for right, question, _ in questions:
            for mode in ("text", "vector", "hybrid"):
                # So many chunks contain ten different sources.
                sql = "SELECT source_id FROM chatbot_search(1, %s, 200, mode => %s)"
                found[mode].append(rank([s for s, in db.execute(sql, [question, mode])], right))
            sql = """SELECT source_id FROM chatbot_sync.embedding, CAST(replace(plainto_tsquery('english', %s)::text, '&', '|') AS tsquery) AS q
                WHERE words @@ q ORDER BY ts_rank(words, q) DESC LIMIT 200"""
            found["ts_rank"].append(rank([s for s, in db.execute(sql, [question])], right))
            best = numpy.argsort(-bm25.get_scores(words(question)))[:200]
            found["bm25"].append(rank([sources[n] for n in best], right))
            # The fusion of similarity and BM25 with other weights than the extension's.
            query = numpy.array(db.execute("SELECT chatbot_embed(%s, 'query')::real[]", [question]).fetchone()[0], dtype=numpy.float32)
            text = numpy.zeros(len(chunks))
            for source, at, score in db.execute("SELECT source_id, chunk_index, score FROM chatbot_search(1, %s, 1000, mode => 'text')", [question]):
                text[place[source, at]] = score
            text /= max(text.max(), 1e-9)
            similarity = vectors @ query
            for weight in WEIGHTS:
                best = numpy.argsort(-((1 - weight) * similarity + weight * text))[:200]
                fused[weight].append(rank([sources[n] for n in best], right))
        # The limit makes the chatbot a large one, so that searches use the indexes.
        db.execute("CALL chatbot_create_index()")
        db.execute("SET chatbot_sync.exact_search_limit = 100")
        for right, question, _ in questions:
            found["by index"].append(rank([s for s, in db.execute("SELECT source_id FROM chatbot_search(1, %s, 200)", [question])], right))
        db.execute("RESET chatbot_sync.exact_search_limit")
        for name, mode in (("words (mode text)", "text"), ("meaning (mode vector)", "vector"), ("both (mode hybrid)", "hybrid"),
                           ("both, by indexes", "by index"), ("Postgres' ts_rank", "ts_rank"), ("rank_bm25, stemmed, stop words out", "bm25")):
            print_scores(name, found[mode])
        for weight in WEIGHTS:
            print_scores(f"{1 - weight:.1f} x similarity + {weight:.1f} x words", fused[weight])
    clean(db)


# Speed

class Speed:
    def __init__(self, connection):
        self.connection, self.db = connection, connect(connection)
        clean(self.db)
        self.random = numpy.random.default_rng(1)
        self.db.execute("SET chatbot_sync.max_chunks = 1000; SET chatbot_sync.text_search_config = 'english'")
        self.db.execute("SELECT chatbot_embed_source(1, 'document', id, content) FROM page").fetchall()
        self.db.execute("CREATE TEMP TABLE real_chunk AS SELECT row_number() OVER () - 1 AS n, content, words, embedding FROM chatbot_sync.embedding")
        vectors = self.db.execute("SELECT embedding::real[] FROM real_chunk ORDER BY n").fetchall()
        self.vectors = numpy.array([v for v, in vectors], dtype=numpy.float32)
        self.vectors = self.vectors[numpy.linalg.norm(self.vectors, axis=1) > 0.5]
        self.titles = [t for t, in self.db.execute("SELECT title FROM page WHERE title LIKE '% %' ORDER BY hashint8(id) LIMIT 50")]
        self.model = self.db.execute("SELECT id FROM chatbot_sync.model WHERE active").fetchone()[0]

    def generated(self, count):
        """Returns vectors between two of the manual's, with noise, so that they form clusters as real ones do."""
        one, other = (self.vectors[self.random.integers(len(self.vectors), size=count)] for _ in range(2))
        share = self.random.uniform(0.5, 1, (count, 1)).astype(numpy.float32)
        made = share * one + (1 - share) * other + self.random.normal(0, 0.3 / 16, one.shape).astype(numpy.float32)
        return made / numpy.linalg.norm(made, axis=1, keepdims=True)

    def load(self, chunks, chatbots):
        """Stores generated chunks, ten a source, for this many chatbots; "mixed": of unequal size. Returns the
        chatbots to search, by name."""
        db = self.db
        clean(db)
        db.execute("CREATE TEMP TABLE made (n int, v vector)")
        with db.cursor() as cursor, cursor.copy("COPY made FROM STDIN (FORMAT BINARY)") as copy:
            copy.write(b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0))
            for start in range(0, chunks, 10_000):
                part = self.generated(min(10_000, chunks - start)).astype(">f4")
                length = part.shape[1]
                copy.write(b"".join(struct.pack("!hiiihh", 2, 4, start + i, 4 + 4 * length, length, 0) + v.tobytes() for i, v in enumerate(part)))
            copy.write(struct.pack("!h", -1))
        if chatbots == "mixed":
            part = f"n::bigint * 10000 / {chunks}"
            chatbot = f"CASE WHEN {part} < 7900 THEN 1 WHEN {part} < 8900 THEN 2 WHEN {part} < 9900 THEN ({part} - 8900) / 100 + 3 ELSE {part} - 9900 + 13 END"
            groups = {"79 % of the chunks": [1], "10 %": [2], "1 %": range(3, 13), "0.01 %": range(13, 113)}
        else:
            chatbot = f"n / {chunks // int(chatbots)} + 1"
            groups = {f"{chatbots} chatbots": range(1, int(chatbots) + 1)}
        db.execute(f"""INSERT INTO chatbot_sync.source (chatbot_id, source_type, source_id, status, chunk_count, model_id, text_search_configs)
            SELECT {chatbot}, 'document', n / 10, 'synced', count(*), {self.model}, '{{pg_catalog.english}}' FROM made GROUP BY 1, 3""")
        db.execute(f"""INSERT INTO chatbot_sync.embedding (chatbot_id, source_type, source_id, model_id, chunk_id, chunk_index,
                start_offset, end_offset, embedding, words, content)
            SELECT {chatbot}, 'document', n / 10, {self.model}, n % 10, n % 10, 0, 1, m.v, r.words, r.content
            FROM made m JOIN (SELECT n AS nth, words, content FROM real_chunk) r ON r.nth = (m.n::bigint * 7919) % (SELECT count(*) FROM real_chunk) ORDER BY m.n""")
        db.execute("DROP TABLE made")
        db.execute("VACUUM ANALYZE chatbot_sync.source, chatbot_sync.embedding")
        return groups

    def statement(self, distance):
        """Returns the fastest statement with pgvector alone. It fetches the texts of the nearest chunks only, since
        sorting would copy them."""
        return f"""SELECT e.source_id * 10 + e.chunk_index, e.source_type, e.content, e.metadata, n.distance
            FROM (SELECT ctid AS place, {distance} AS distance FROM chatbot_sync.embedding
                WHERE chatbot_id = %(chatbot)s AND model_id = {self.model} ORDER BY {distance} LIMIT 10) AS n
            JOIN chatbot_sync.embedding e ON e.ctid = n.place ORDER BY n.distance"""

    def ours(self):
        """Searches by the extension, in each mode."""
        sql = "SELECT source_id * 10 + chunk_index, source_type, content, metadata, similarity FROM chatbot_search(%(chatbot)s, %(query)s, 10, mode => '{}')"
        return {f"chatbot_search(), {mode}": (self.db, sql.format(mode)) for mode in ("vector", "text", "hybrid")}

    def exact(self):
        """An exact search with pgvector alone."""
        return {"bare pgvector": (self.db, self.statement("embedding <=> %(vector)s::vector"))}

    def by_index(self, ef_search):
        """Searches with HNSW alone, in a session with its own settings."""
        db, length = connect(self.connection), self.vectors.shape[1]
        db.execute(f"SET enable_sort = off; SET hnsw.ef_search = {ef_search}; SET hnsw.iterative_scan = relaxed_order")
        return {f"bare pgvector, HNSW, ef_search {ef_search}": (db, self.statement(f"embedding::vector({length}) <=> %(vector)s::vector({length})"))}

    def args(self, n, chatbots):
        """The arguments of the search for the n-th title."""
        return {"query": self.titles[n], "chatbot": chatbots[n * 7919 % len(chatbots)], "vector": self.queries[n]}

    def results(self, arm, chatbots):
        """Returns the keys that an arm finds for each title. An arm is a session and a statement."""
        db, sql = arm
        return [[row[0] for row in db.execute(sql, self.args(n, chatbots)).fetchall()] for n in range(len(self.titles))]

    def compare(self, title, arms, chatbots, right):
        """Runs a search for each title with each of the arms in turns, and prints a line for each arm. Times are
        divided by that of the fastest arm whose name begins with "bare" and whose recall is at least 0.98."""
        times, found = {name: [] for name in arms}, {name: [] for name in arms}
        for turn in range(TURNS + 1):
            for n in range(len(self.titles)):
                for name, (db, sql) in arms.items():
                    start = time.perf_counter()
                    rows = db.execute(sql, self.args(n, chatbots), prepare=True).fetchall()
                    if turn:
                        times[name].append((time.perf_counter() - start) * 1000)
                        found[name].append(len({row[0] for row in rows} & set(right[n])) / max(1, len(right[n])))
        recall = {name: statistics.mean(shares) for name, shares in found.items()}
        half = {name: statistics.median(all) for name, all in times.items()}
        best = min(half[name] for name in arms if name.startswith("bare") and recall[name] >= 0.98)
        print(f"{title:<46}{'p50 ms':>9}{'p95 ms':>9}{'recall':>9}{'÷ bare':>9}")
        for name in arms:
            of_vectors = f"{recall[name]:9.3f}" if name.startswith("bare") or name.endswith("vector") else " " * 9
            print(f"  {name:<44}{half[name]:9.2f}{statistics.quantiles(times[name], n=20)[-1]:9.2f}{of_vectors}{half[name] / best:9.2f}", flush=True)

    def run(self, sizes):
        for size in sizes:
            chunks, chatbots = size.split("/")
            groups = self.load(int(chunks), chatbots)
            print(f"{chunks} chunks")
            self.queries = [v for v, in (self.db.execute("SELECT chatbot_embed(%s, 'query')::text", [t]).fetchone() for t in self.titles)]
            right = {}
            for name, ids in groups.items():
                start = time.perf_counter()
                right[name] = self.results(self.exact()["bare pgvector"], ids)
                if (time.perf_counter() - start) / len(self.titles) > SLOW:
                    print(f"{name}, no index: bare pgvector takes {(time.perf_counter() - start) / len(self.titles):.1f} s")
                    continue
                # All columns in one sort: the obvious way to write the statement.
                simple = self.statement("embedding <=> %(vector)s::vector").replace("SELECT ctid AS place,", "SELECT ctid AS place, content, metadata,")
                arms = {"the query's vector alone": (self.db, "SELECT chatbot_embed(%(query)s, 'query') IS NULL"),
                        "bare pgvector, texts in the sort": (self.db, simple.replace("e.content, e.metadata", "n.content, n.metadata"))}
                self.compare(f"{name}, no index", arms | self.exact() | self.ours(), ids, right[name])
            self.db.execute("SET maintenance_work_mem = '2GB'")
            start = time.perf_counter()
            self.db.execute("CALL chatbot_create_index()")
            print(f"chatbot_create_index(): {time.perf_counter() - start:.0f} s")
            for name, ids in groups.items():
                # Where HNSW passes over most of the chunks that it looks at, it takes as long as reading all chunks
                # of a large chatbot.
                arms = self.by_index(200) | self.by_index(1000) if len(ids) == 1 else self.exact()
                self.compare(f"{name}, with indexes", arms | self.ours(), ids, right[name])
        clean(self.db)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["quality", connection, *paths] if paths:
            quality(connection, *paths)
        case ["speed", connection, *sizes]:
            Speed(connection).run(sizes or ["10000/1", "10000/100", "100000/1", "100000/100", "100000/10000"])
        case _:
            sys.exit(__doc__)
