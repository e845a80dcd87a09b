#!/usr/bin/env python3
"""Measures what a chunk takes: bytes of its row, of its key and in an HNSW index, and what the index costs writers.

    python3 bench/sizes.py "host=/run/postgresql user=postgres dbname=mydb" [ROWS]

The first argument is a libpq connection string for a database with the extension, whose tables are not changed, and
with a table page (id bigint, title text, content text) of some hundred pages (tools/pages.py makes one). Texts are
chunks of these pages; vectors are random, which is the worst case for an index. Sizes are absolute; times are ratios
within one run.
"""
import statistics, sys
import psycopg
from common import timed

ROWS = int(sys.argv[2]) if len(sys.argv) > 2 else 4_000
MORE = 100
ROUNDS = 5


def main():
    db = psycopg.connect(sys.argv[1], autocommit=True)
    db.execute("SET maintenance_work_mem = '1GB'")
    db.execute("SET jit = off")
    one = lambda sql: db.execute(sql).fetchone()[0]
    print(f"{ROWS} chunks\n{'dimensions':>10} {'row':>7} {'key':>5} {'hnsw':>7} bytes a chunk | rows/s without hnsw, with, ratio | "
          "exact ms, hnsw ms at ef_search 100")
    for dimensions in (256, 768, 1536):
        vector = f"ARRAY(SELECT random() - 0.5 FROM generate_series(1, {dimensions}) WHERE i = i)::real[]::vector"
        db.execute("DROP TABLE IF EXISTS pg_temp.made, pg_temp.chunk")
        db.execute("CREATE TEMP TABLE chunk (LIKE chatbot_sync.embedding INCLUDING ALL)")
        db.execute(f"""CREATE TEMP TABLE made AS SELECT 1::bigint AS chatbot_id, i AS source_id, 1 AS model_id, 0 AS chunk_id,
            0 AS chunk_index, 0 AS start_offset, 850 AS end_offset, true AS enabled, 'document' AS source_type, NULL::text AS lang,
            {vector} AS embedding, to_tsvector('simple', content) AS words, '{{"title": "A title"}}'::jsonb AS metadata, content
            FROM (SELECT row_number() OVER () AS i, content FROM (
                SELECT c.content FROM page, chatbot_chunk(page.content) AS c LIMIT {ROWS + 2 * MORE * ROUNDS}) AS cut) AS c""")
        db.execute("CREATE INDEX ON pg_temp.made (source_id)")
        columns = ", ".join(c for c, in db.execute("""SELECT attname FROM pg_attribute
            WHERE attrelid = 'pg_temp.chunk'::regclass AND attnum > 0 ORDER BY attnum""").fetchall())
        insert = f"INSERT INTO pg_temp.chunk ({columns}) SELECT {columns} FROM made WHERE source_id > %s AND source_id <= %s"
        db.execute(insert, (0, ROWS))
        row = one("SELECT pg_table_size('pg_temp.chunk')") / ROWS
        key = one("SELECT pg_indexes_size('pg_temp.chunk')") / ROWS
        db.execute("VACUUM ANALYZE pg_temp.chunk")
        nearest = f"""SELECT source_id FROM pg_temp.chunk ORDER BY embedding::vector({dimensions}) <=> %s::vector({dimensions}) LIMIT 10"""
        asked = db.execute(f"SELECT {vector.replace('i = i', 'k = k')}::text FROM generate_series(1, 30) AS k").fetchall()
        search = lambda: statistics.median(timed(lambda: db.execute(nearest, a).fetchall()) for a in asked) * 1000
        exact = search()
        at = ROWS
        def writes():
            nonlocal at
            times = []
            for _ in range(ROUNDS):
                times.append(timed(lambda: db.execute(insert, (at, at + MORE))))
                at += MORE
            return MORE / statistics.median(times)
        without = writes()
        rows = one("SELECT count(*) FROM pg_temp.chunk")
        db.execute(f"CREATE INDEX hnsw ON pg_temp.chunk USING hnsw ((embedding::vector({dimensions})) vector_cosine_ops)")
        hnsw = one("SELECT pg_relation_size('pg_temp.hnsw')") / rows
        db.execute("SET hnsw.ef_search = 100")
        found = search()
        with_index = writes()
        print(f"{dimensions:>10} {row:>7.0f} {key:>5.0f} {hnsw:>7.0f} {'':<13} | {without:>9.0f} {with_index:>8.0f} {without / with_index:>6.1f} "
              f"{'':<7} | {exact:>6.1f} {found:>6.2f}", flush=True)


main()
