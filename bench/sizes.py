#!/usr/bin/env python3
"""Measures what a chunk takes: bytes of its row, of its key and in an HNSW index of each quantization, what an exact search
reads, and what storing costs with and without an index; for vectors and for halves.

    python3 bench/sizes.py "host=/run/postgresql user=postgres dbname=mydb" [ROWS [DIMENSIONS...]]

The first argument is a libpq connection string for a database with the extension, and with a table page (id bigint, title
text, content text) of some hundred pages (tools/pages.py makes one). Texts and words are those of chunks of these pages,
which the extension stores once and deletes again; vectors are random, which is the worst case for an index. "Before" is the
layout of rows before 0.3.0, in the same run: vectors, words with positions, texts compressed by pglz. Sizes are absolute;
times are for comparison within one run.
"""
import json, statistics, sys
import psycopg
from common import timed

ROWS = int(sys.argv[2]) if len(sys.argv) > 2 else 4_000
DIMENSIONS = [int(n) for n in sys.argv[3:]] or [256, 384, 768, 1024, 1536]
MORE = 100
ROUNDS = 5
CHATBOT = 2**40
PAGE = 8_168


def row_bytes(dimensions, number):
    """Returns the length that rows may have, as src/pg/store/vectors.rs computes it."""
    rows = max(1, PAGE // (8 + number * dimensions + 760))
    return max(2_032, (PAGE // rows - 4) // 8 * 8)


def main():
    db = psycopg.connect(sys.argv[1], autocommit=True)
    db.execute("SET maintenance_work_mem = '1GB'")
    db.execute("SET jit = off; SET max_parallel_workers_per_gather = 0; SET temp_buffers = '1GB'")
    one = lambda sql, *args: db.execute(sql, *args).fetchone()[0]
    db.execute("SET chatbot_sync.max_chunks = 1000")
    db.execute(f"SELECT chatbot_embed_source({CHATBOT}, 'document', id, content, jsonb_build_object('title', title)) FROM page").fetchall()
    db.execute(f"""CREATE TEMP TABLE cut AS SELECT row_number() OVER () AS i, content, words, metadata,
            to_tsvector('english', content) AS words_before
        FROM chatbot_sync.embedding WHERE chatbot_id = {CHATBOT} LIMIT {ROWS + 2 * MORE * ROUNDS}""")
    db.execute("SELECT chatbot_cleanup(%s)", [CHATBOT])
    rows = min(ROWS, one("SELECT count(*) FROM cut") - 2 * MORE * ROUNDS)
    print(f"{rows} chunks, texts of {one('SELECT avg(octet_length(content)) FROM cut'):.0f} bytes, compressed by "
          f"{one('SHOW default_toast_compression')} by default\n"
          f"{'':<18}{'row':>6}{'key':>5}{'exact: ms':>10}{'buffers':>9}{'rows/s':>8}{'with hnsw':>10} | hnsw bytes: none, half, binary")
    for dimensions in DIMENSIONS:
        made = f"ARRAY(SELECT random() - 0.5 FROM generate_series(1, {dimensions}) WHERE i = i)::real[]::vector"
        db.execute("DROP TABLE IF EXISTS pg_temp.made")
        db.execute(f"CREATE TEMP TABLE made AS SELECT cut.*, {made} AS vector FROM cut")
        db.execute("CREATE INDEX ON pg_temp.made (i)")
        asked = [v for v, in db.execute(f"SELECT {made.replace('i = i', 'k = k')}::text FROM generate_series(1, 15) AS k").fetchall()]
        for name in ("before", "full", "half"):
            measure(db, one, rows, dimensions, name, asked)


def measure(db, one, rows, dimensions, name, asked):
    column, type = ("embedding_half", "halfvec") if name == "half" else ("embedding", "vector")
    words = "words_before" if name == "before" else "words"
    db.execute("DROP TABLE IF EXISTS pg_temp.chunk")
    db.execute("CREATE TEMP TABLE chunk (LIKE chatbot_sync.embedding INCLUDING ALL)")
    if name == "before":
        db.execute("ALTER TABLE pg_temp.chunk ALTER content SET COMPRESSION pglz, ALTER words SET COMPRESSION pglz")
    else:
        db.execute(f"ALTER TABLE pg_temp.chunk SET (toast_tuple_target = {row_bytes(dimensions, 2 if name == 'half' else 4)})")
    insert = f"""INSERT INTO pg_temp.chunk (chatbot_id, source_type, source_id, model_id, chunk_id, chunk_index, start_offset, end_offset,
            metadata, content, words, {column})
        SELECT 1, 'document', i, 1, 0, 0, 0, 850, metadata, content, {words}, vector::{type} FROM made WHERE i > %s AND i <= %s"""
    db.execute(insert, (0, rows))
    row, key = (one(f"SELECT {size}('pg_temp.chunk')") / rows for size in ("pg_table_size", "pg_indexes_size"))
    db.execute("VACUUM ANALYZE pg_temp.chunk")
    # Texts are fetched of the nearest alone, as a search does.
    nearest = f"""SELECT c.content FROM (SELECT ctid AS place, {column} <=> (SELECT %s::{type}) AS distance FROM pg_temp.chunk
            WHERE model_id = 1 AND enabled ORDER BY 2 LIMIT 10) AS n JOIN pg_temp.chunk AS c ON c.ctid = n.place"""
    db.execute(nearest, [asked[0]])
    exact = statistics.median(timed(lambda: db.execute(nearest, [a]).fetchall()) for a in asked) * 1000
    plan = one("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + nearest, [asked[0]])
    plan = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
    buffers = sum(plan[kind] for kind in ("Shared Hit Blocks", "Shared Read Blocks", "Local Hit Blocks", "Local Read Blocks"))
    at = rows

    def writes():
        nonlocal at
        times = []
        for _ in range(ROUNDS):
            times.append(timed(lambda: db.execute(insert, (at, at + MORE))))
            at += MORE
        return MORE / statistics.median(times)

    without = writes()
    count = one("SELECT count(*) FROM pg_temp.chunk")
    none = f"({column}::{type}({dimensions})) {type}_cosine_ops"
    forms = {"none": none}
    if name != "before":
        forms |= {"half": f"({column}::halfvec({dimensions})) halfvec_cosine_ops",
                  "binary": f"(binary_quantize({column})::bit({dimensions})) bit_hamming_ops"}
    sizes = []
    for form, definition in forms.items():
        db.execute(f"CREATE INDEX hnsw ON pg_temp.chunk USING hnsw ({definition}) WITH (ef_construction = 128)")
        sizes.append(one("SELECT pg_relation_size('pg_temp.hnsw')") / count)
        if form == "none":
            with_index = writes()
            count = one("SELECT count(*) FROM pg_temp.chunk")
        db.execute("DROP INDEX pg_temp.hnsw")
    print(f"{dimensions:>6} {name:<11}{row:>6.0f}{key:>5.0f}{exact:>10.1f}{buffers:>9}{without:>8.0f}{with_index:>10.0f} | "
          + ", ".join(f"{size:.0f}" for size in sizes), flush=True)


main()
