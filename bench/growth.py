#!/usr/bin/env python3
"""Measures whether the cost of a row depends on the number of rows: the processor time per row for LARGE rows divided
by that for SMALL rows, for each kind of statement and call, with missing, stale and fresh statistics. A ratio of 1.0
is linear. The time is that of the session's own process as Linux counts it, which other processes disturb less than
wall-clock time.

    pip install 'psycopg[binary]'
    python3 bench/growth.py "host=/run/postgresql user=postgres dbname=mydb" [SMALL LARGE [KIND]]

The first argument is a libpq connection string of a superuser, for a database of a throw-away server without workers.
The server has a release build of the extension with default settings. KIND is a part of a row's name. Everything that
the extension stores in that database is DELETED.

    missing   never analyzed; a new session
    stale     analyzed when there were 50 rows of another chatbot; a session that has its plans from then
    fresh     analyzed right before; a new session
"""
import statistics, sys
import psycopg

SMALL = int(sys.argv[2]) if len(sys.argv) > 2 else 500
LARGE = int(sys.argv[3]) if len(sys.argv) > 3 else 50_000
WANTED = sys.argv[4] if len(sys.argv) > 4 else ""
STATES = "missing", "stale", "fresh"
TARGET = 1.3
TABLES = "growth, growth_chatbot, chatbot_sync.source, chatbot_sync.embedding, chatbot_sync.job, chatbot_sync.sync_log"
SYNC = """SELECT chatbot_attach('growth', 'document', chatbot_column => 'bot', metadata_columns => '{title}',
    enabled_column => 'active', status_column => 'status') ;; SELECT chatbot_attach_chatbots('growth_chatbot')"""
ASYNC = SYNC.replace("status_column", "mode => 'async', status_column")
INSERT = "INSERT INTO growth (bot, title, content) SELECT BOT, 'Title', 'Document ' || i FROM generate_series(1, ROWS) AS i"
MERGE = """MERGE INTO growth AS g USING (SELECT * FROM growth WHERE bot = BOT) AS n ON g.id = n.id
    WHEN MATCHED THEN UPDATE SET content = 'Merged ' || n.id"""
QUIETLY = "SET session_replication_role = replica ;; {} ;; RESET session_replication_role"
QUEUE = "CALL chatbot_process_queue()"
ALL = "CALL chatbot_sync_all()"
DROP_MODEL = """DO $$ DECLARE old int := (SELECT max(id) FROM chatbot_sync.model WHERE NOT active);
    BEGIN CALL chatbot_drop_model(old); END $$"""
# The built-in model a second time, as a model of its own.
NEXT_MODEL = """INSERT INTO chatbot_sync.model (provider, model, dimensions, options, active, next)
    VALUES ('local', 'minilm-static-256', 256, '{"copy": true}', false, true)"""


def fill_in(statements, bot, rows):
    return statements.replace("BOT", str(bot)).replace("ROWS", str(rows))


class MeasuredStatement:
    """A measured statement on the rows of a chatbot that ``fill`` inserts. ``attach`` runs before them."""

    def __init__(self, name, act, attach=SYNC, fill=INSERT, before=None, after=None, repeats=5):
        self.name, self.act, self.attach, self.fill = name, act, attach, fill
        self.before, self.after, self.repeats = before, after, repeats


KINDS = [
    MeasuredStatement("INSERT", INSERT, fill=None),
    MeasuredStatement("COPY", "COPY growth (bot, content) FROM PROGRAM 'for i in $(seq ROWS); do printf \"BOT\\tDocument $i\\n\"; done'", fill=None),
    MeasuredStatement("UPDATE of the text", "UPDATE growth SET content = 'Edited ' || id WHERE bot = BOT"),
    MeasuredStatement("UPDATE of metadata", "UPDATE growth SET title = 'Another' WHERE bot = BOT"),
    MeasuredStatement("UPDATE of the chatbot", "UPDATE growth SET bot = BOT + 100 WHERE bot = BOT"),
    MeasuredStatement("UPDATE of the id", "UPDATE growth SET id = id + 1000000 WHERE bot = BOT"),
    MeasuredStatement("UPDATE of the id, each to its neighbour's", "UPDATE growth SET id = id - 1 WHERE bot = BOT",
        fill="SELECT nextval('growth_id_seq') ;; " + INSERT),
    MeasuredStatement("UPDATE that disables", "UPDATE growth SET active = false WHERE bot = BOT"),
    MeasuredStatement("UPDATE that enables", "UPDATE growth SET active = true WHERE bot = BOT", before="UPDATE growth SET active = false WHERE bot = BOT"),
    MeasuredStatement("UPDATE of another column", "UPDATE growth SET visits = visits + 1 WHERE bot = BOT"),
    MeasuredStatement("MERGE", MERGE),
    MeasuredStatement("DELETE", "DELETE FROM growth WHERE bot = BOT"),
    MeasuredStatement("TRUNCATE", "TRUNCATE growth"),
    MeasuredStatement("chatbot deleted, rows by cascade", "DELETE FROM growth_chatbot WHERE id = BOT"),
    MeasuredStatement("chatbot renumbered by cascade", "UPDATE growth_chatbot SET id = id + 200 WHERE id = BOT"),
    MeasuredStatement("async: INSERT", INSERT, ASYNC, fill=None),
    MeasuredStatement("async: UPDATE of the text", "UPDATE growth SET content = 'Edited ' || id WHERE bot = BOT", ASYNC, after=QUEUE),
    MeasuredStatement("async: UPDATE of the chatbot", "UPDATE growth SET bot = BOT + 100 WHERE bot = BOT", ASYNC, after=QUEUE),
    MeasuredStatement("async: UPDATE that disables", "UPDATE growth SET active = false WHERE bot = BOT", ASYNC, after=QUEUE),
    MeasuredStatement("async: DELETE", "DELETE FROM growth WHERE bot = BOT", ASYNC, after=QUEUE),
    MeasuredStatement("async: chatbot deleted", "DELETE FROM growth_chatbot WHERE id = BOT", ASYNC, after=QUEUE),
    MeasuredStatement("process_queue, new rows", QUEUE, ASYNC),
    MeasuredStatement("process_queue, other chatbot", QUEUE, ASYNC, before=QUEUE + " ;; UPDATE growth SET bot = BOT + 100 WHERE bot = BOT"),
    MeasuredStatement("process_queue, deleted rows", QUEUE, ASYNC, before=QUEUE + " ;; DELETE FROM growth WHERE bot = BOT"),
    MeasuredStatement("attach of a full table", SYNC, attach=None),
    MeasuredStatement("sync_all", ALL, fill=QUIETLY.format(INSERT)),
    MeasuredStatement("sync_all, nothing to do", ALL),
    MeasuredStatement("verify", "SELECT count(*) FROM chatbot_verify()"),
    MeasuredStatement("repair of orphans", "SELECT chatbot_repair()", before=QUIETLY.format("DELETE FROM growth WHERE bot = BOT")),
    MeasuredStatement("estimate", "SELECT * FROM chatbot_estimate()"),
    MeasuredStatement("retry", "SELECT chatbot_retry()", before="UPDATE chatbot_sync.source SET status = 'error' WHERE chatbot_id = BOT"),
    MeasuredStatement("cleanup", "SELECT chatbot_cleanup(BOT)"),
    MeasuredStatement("detach, vectors too", "SELECT chatbot_detach('growth', true)"),
    MeasuredStatement("reembed", "CALL chatbot_reembed()", before=NEXT_MODEL),
    MeasuredStatement("drop_model", DROP_MODEL,
        before=NEXT_MODEL + " ;; CALL chatbot_reembed()"),
]


class Growth:
    def __init__(self, connection):
        self.connection = connection

    def connect(self):
        db = psycopg.connect(self.connection, autocommit=True)
        db.execute("SET client_min_messages = error")
        return db

    def processor_seconds(self, db):
        return int(db.execute("SELECT pg_read_file('/proc/self/schedstat')").fetchone()[0].split()[0]) / 1e9

    def run(self, db, statements, bot, rows):
        for statement in fill_in(statements, bot, rows).split(" ;; "):
            db.execute(statement)

    def reset(self, db):
        db.execute("DROP TABLE IF EXISTS growth, growth_chatbot")
        db.execute("TRUNCATE chatbot_sync.source, chatbot_sync.embedding, chatbot_sync.job, chatbot_sync.sync_log")
        db.execute("SELECT chatbot_set_model('local', 'minilm-static-256')")
        for model, in db.execute("SELECT id FROM chatbot_sync.model WHERE NOT active").fetchall():
            db.execute(f"CALL chatbot_drop_model({model})")
        db.execute("CREATE TABLE growth_chatbot (id int PRIMARY KEY)")
        db.execute("""CREATE TABLE growth (id bigserial PRIMARY KEY DEFERRABLE, bot int REFERENCES growth_chatbot
            ON DELETE CASCADE ON UPDATE CASCADE, title text, content text, active boolean NOT NULL DEFAULT true,
            visits int NOT NULL DEFAULT 0, status text)""")
        db.execute("CREATE INDEX ON growth (bot)")
        db.execute("INSERT INTO growth_chatbot SELECT * FROM generate_series(1, 20)")
        db.execute("INSERT INTO growth_chatbot SELECT * FROM generate_series(101, 120)")
        for table in "growth", "chatbot_sync.source", "chatbot_sync.embedding", "chatbot_sync.job":
            db.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")

    def seconds_a_row(self, kind, state, rows):
        db = self.connect()
        self.reset(db)
        db.execute("VACUUM (ANALYZE, TRUNCATE false) chatbot_sync.source, chatbot_sync.embedding") if state == "stale" else None
        if kind.attach:
            self.run(db, kind.attach, 1, 0)
        whole = "BOT" not in kind.act
        if not whole:
            self.run(db, INSERT, 1, 50)
        if state == "stale":
            if not whole:
                self.run(db, kind.fill, 3, 20) if kind.fill else None
                self.run(db, kind.before, 3, 20) if kind.before else None
                self.run(db, kind.act, 3, 20)
                self.run(db, kind.after, 3, 20) if kind.after else None
            db.execute("ANALYZE growth, chatbot_sync.source, chatbot_sync.embedding, chatbot_sync.job")
        if kind.fill:
            self.run(db, kind.fill, 2, rows)
            self.run(db, QUEUE, 2, rows) if kind.after else None
        self.run(db, kind.before, 2, rows) if kind.before else None
        if state == "fresh":
            db.execute("ANALYZE growth, chatbot_sync.source, chatbot_sync.embedding, chatbot_sync.job")
        if state != "stale":
            db.close()
            db = self.connect()
            # The first call of a session loads the library and its model, which is not measured.
            db.execute("SELECT chatbot_embed('Hello.')")
        before = self.processor_seconds(db)
        self.run(db, kind.act, 2, rows)
        seconds = self.processor_seconds(db) - before
        db.close()
        return seconds / rows

    def ratio(self, kind, state):
        small = statistics.median(self.seconds_a_row(kind, state, SMALL) for _ in range(kind.repeats))
        return self.seconds_a_row(kind, state, LARGE) / small, small

    def all(self):
        heading = f"{LARGE:,} rows against {SMALL:,}"
        print(f"{heading:<46}" + "".join(f"{state:>10}" for state in STATES) + f"{'us a row':>12}")
        over = []
        for kind in KINDS:
            if WANTED not in kind.name:
                continue
            print(f"{kind.name:<46}", end="", flush=True)
            for state in STATES:
                ratio, small = self.ratio(kind, state)
                if ratio > TARGET:
                    over.append(f"{kind.name} ({state}): {ratio:.2f}")
                print(f"{ratio:>10.2f}", end="", flush=True)
            print(f"{small * 1e6:>12.0f}", flush=True)
        print(f"more than {TARGET}: {'; '.join(over) or 'none'}")
        self.reset(self.connect())


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    Growth(sys.argv[1]).all()
