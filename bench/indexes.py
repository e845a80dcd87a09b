#!/usr/bin/env python3
"""Measures HNSW over vectors, over halves, and over bits with candidates re-ranked by the vectors: bytes of the index,
time to build it, time of a search, and recall@10.

    pip install 'psycopg[binary]' numpy
    python3 bench/indexes.py "host=/run/postgresql user=postgres dbname=mydb" [CHUNKS [DIMENSIONS [VECTORS.npy QUERIES.npy]]]

The first argument is a libpq connection string for a database with pgvector 0.7 or later; it makes a table of its own and
drops it. Without files, real vectors are those of the table page (tools/pages.py makes one), embedded by the extension's
built-in model: its chunks, and its titles as queries. Vectors lie between two real ones, with noise, so that they form
clusters as real ones do; then they are projected to DIMENSIONS by one random Gaussian matrix, which keeps their angles, and
normalised. Times are medians of all queries in turns; ratios are to HNSW over vectors in the same run.
"""
import statistics, struct, sys, time
import numpy, psycopg

TURNS = 3
CANDIDATES = (50, 100, 200, 400, 800)
QUERIES = 100


def normalised(vectors):
    return vectors / numpy.maximum(numpy.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def real_vectors(db, files):
    """Returns the vectors of real chunks and those of queries."""
    if files:
        made = [numpy.load(file) for file in files]
    else:
        sql = "SELECT chatbot_embed(c.content)::real[] FROM page, chatbot_chunk(page.content) AS c"
        of_titles = f"SELECT chatbot_embed(title, 'query')::real[] FROM page WHERE title LIKE '% %' ORDER BY hashint8(id) LIMIT {QUERIES}"
        made = [numpy.array([v for v, in db.execute(s)], dtype=numpy.float32) for s in (sql, of_titles)]
    return [v[numpy.linalg.norm(v, axis=1) > 0.5].astype(numpy.float32) for v in made]


def main():
    chunks, dimensions = (int(sys.argv[at]) if len(sys.argv) > at else default for at, default in ((2, 100_000), (3, 1536)))
    db = psycopg.connect(sys.argv[1], autocommit=True)
    real, queries = real_vectors(db, sys.argv[4:])
    random = numpy.random.default_rng(1)
    matrix = random.normal(size=(real.shape[1], dimensions)).astype(numpy.float32) / numpy.sqrt(dimensions)
    project = (lambda v: normalised(v @ matrix)) if dimensions != real.shape[1] else (lambda v: v)
    queries = project(queries[:QUERIES])
    db.execute("DROP TABLE IF EXISTS indexed_chunk; CREATE TABLE indexed_chunk (id int, e vector)")
    db.execute("ALTER TABLE indexed_chunk ALTER e SET STORAGE PLAIN")
    best = [[] for _ in queries]
    with db.cursor() as cursor, cursor.copy("COPY indexed_chunk FROM STDIN (FORMAT BINARY)") as copy:
        copy.write(b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0))
        for start in range(0, chunks, 10_000):
            count = min(10_000, chunks - start)
            one, other = (real[random.integers(len(real), size=count)] for _ in range(2))
            share = random.uniform(0.5, 1, (count, 1)).astype(numpy.float32)
            part = normalised(share * one + (1 - share) * other + random.normal(0, 0.3 / 16, one.shape).astype(numpy.float32))
            part = project(part)
            for at, similarity in enumerate(queries @ part.T):
                best[at] = sorted(best[at] + [(-similarity[n], start + n) for n in numpy.argpartition(-similarity, 10)[:10]])[:10]
            length = part.shape[1]
            copy.write(b"".join(struct.pack("!hiiihh", 2, 4, start + i, 4 + 4 * length, length, 0) + v.tobytes()
                                for i, v in enumerate(part.astype(">f4"))))
        copy.write(struct.pack("!h", -1))
    right = [{n for _, n in nearest} for nearest in best]
    asked = ["[" + ",".join(f"{x:.7f}" for x in query) + "]" for query in queries]
    db.execute("VACUUM ANALYZE indexed_chunk")
    # The settings that a search of the extension has.
    db.execute("SET enable_sort = off; SET jit = off; SET hnsw.iterative_scan = relaxed_order; SET maintenance_work_mem = '2GB'")
    db.execute("SET plan_cache_mode = force_generic_plan")
    n = dimensions
    forms = {
        "vectors": (f"(e::vector({n})) vector_cosine_ops", f"e::vector({n}) <=> %(q)s::vector({n})"),
        "halves": (f"(e::halfvec({n})) halfvec_cosine_ops", f"e::halfvec({n}) <=> %(q)s::halfvec({n})"),
        "bits": (f"(binary_quantize(e)::bit({n})) bit_hamming_ops",
                 f"binary_quantize(e)::bit({n}) <~> binary_quantize(%(q)s::vector({n}))::bit({n})"),
    }
    print(f"{chunks} chunks, {n} dimensions\n{'':<36}{'bytes':>8}{'build s':>9}{'÷':>6}{'p50 ms':>9}{'p95 ms':>9}{'÷':>6}{'recall@10':>11}")
    first = None
    for name, (definition, distance) in forms.items():
        start = time.perf_counter()
        db.execute(f"CREATE INDEX indexed_chunk_hnsw ON indexed_chunk USING hnsw ({definition}) WITH (ef_construction = 128)")
        build = time.perf_counter() - start
        size = db.execute("SELECT pg_relation_size('indexed_chunk_hnsw')").fetchone()[0] / chunks
        for candidates in CANDIDATES if name == "bits" else (50,):
            db.execute(f"SET hnsw.ef_search = {max(200, candidates)}")
            sql = f"""SELECT id FROM (SELECT id, e <=> %(q)s::vector AS d FROM indexed_chunk ORDER BY {distance} LIMIT {candidates}) AS c
                ORDER BY d LIMIT 10"""
            times, found = [], []
            for turn in range(TURNS + 1):
                for query, nearest in zip(asked, right):
                    start = time.perf_counter()
                    rows = db.execute(sql, {"q": query}, prepare=True).fetchall()
                    if turn:
                        times.append((time.perf_counter() - start) * 1000)
                        found.append(len({row[0] for row in rows} & nearest) / 10)
            half = statistics.median(times)
            first = first or (build, half)
            print(f"{name + f', {candidates} candidates':<36}{size:>8.0f}{build:>9.1f}{build / first[0]:>6.2f}{half:>9.2f}"
                  f"{statistics.quantiles(times, n=20)[-1]:>9.2f}{half / first[1]:>6.2f}{statistics.mean(found):>11.3f}", flush=True)
        db.execute("DROP INDEX indexed_chunk_hnsw")
    db.execute("DROP TABLE indexed_chunk")


main()
