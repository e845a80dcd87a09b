#!/usr/bin/env python3
"""Measures what the triggers of a host table cost, as ratios of times that one run measures in turns.

    pip install 'psycopg[binary]'
    python3 bench/hosts.py "host=/run/postgresql user=postgres dbname=mydb" [ROUNDS]

The first argument is a libpq connection string of a superuser, for a database of a throw-away server without workers.
The server has a release build of the extension with default settings, and a table page (id bigint, title text,
content text) with a thousand pages or more. All vectors of that database are DELETED.
"""
import http.client, json, statistics, sys, urllib.parse
import psycopg
from common import Provider, documents, reset_provider, heading, missing_and_extra, ratios, row, timed, use_provider

ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 5
OLD_ROUNDS = min(3, ROUNDS)
# Single statements are much shorter than most disturbances, so least and most are those of medians of this many.
BLOCK, UPDATE_BLOCK = 50, 12
UPDATE_ROUNDS, SINGLE_ROUNDS = UPDATE_BLOCK * ROUNDS, BLOCK * ROUNDS
STATEMENT, OLD_BATCH = 50, 10
CHATBOT = 2
STATUS = "status_column => 'sync_status', processed_column => 'processed', error_column => 'sync_error'"


class Bench:
    def __init__(self, connection):
        self.connection = connection
        self.db = psycopg.connect(connection, autocommit=True)
        self.db.execute("SET jit = off")
        self.db.execute("SET client_min_messages = error")
        self.provider = Provider()
        use_provider(self.db, self.provider)
        self.documents = documents(self.db)

    def table(self, name, attach=None):
        """Creates a host table as an application has it. ``attach`` has further arguments of ``chatbot_attach()``;
        ``None``: not attached."""
        self.db.execute(f"DROP TABLE IF EXISTS {name}")
        self.db.execute(f"""CREATE TABLE {name} (id bigserial PRIMARY KEY, chatbot_id int, title text, content text,
            active boolean NOT NULL DEFAULT true, visits int NOT NULL DEFAULT 0,
            sync_status text, processed boolean, sync_error text) WITH (autovacuum_enabled = off)""")
        if attach is not None:
            self.db.execute(f"SELECT chatbot_attach('{name}', 'document'{attach})")

    def insert_documents(self, name):
        for at in range(0, len(self.documents), STATEMENT):
            rows = self.documents[at : at + STATEMENT]
            sql = f"INSERT INTO {name} (id, chatbot_id, content) VALUES " + ", ".join(["(%s, %s, %s)"] * len(rows))
            self.db.execute(sql, [value for id, content, _ in rows for value in (id, CHATBOT, content)])

    def run_call_per_document(self):
        """As applications did it before: documents first, then for each of them requests one after the other, and
        rows in a transaction of their own."""
        self.insert_documents("plain")
        address = urllib.parse.urlparse(self.provider.url)
        http_client = http.client.HTTPConnection(address.netloc)
        with psycopg.connect(self.connection) as db:
            for id, _, chunks in self.documents:
                vectors = []
                for at in range(0, len(chunks), OLD_BATCH):
                    body = json.dumps({"model": "m", "input": chunks[at : at + OLD_BATCH]})
                    path = f"{address.path}/embeddings"
                    http_client.request("POST", path, body, {"content-type": "application/json"})
                    answer = json.loads(http_client.getresponse().read())
                    vectors += [data["embedding"] for data in answer["data"]]
                with db.cursor() as cursor:
                    rows = [(CHATBOT, id, at, *both) for at, both in enumerate(zip(chunks, map(str, vectors)))]
                    sql = """INSERT INTO old_embedding (chatbot_id, document_id, chunk_index, content, embedding)
                        VALUES (%s, %s, %s, %s, %s)"""
                    cursor.executemany(sql, rows)
                db.commit()

    def clean(self, *tables):
        for table in tables:
            self.db.execute(f"TRUNCATE {table}")
        self.db.execute("VACUUM chatbot_sync.source, chatbot_sync.embedding, chatbot_sync.job")
        self.db.execute("CHECKPOINT")

    def inserts(self, latency=50):
        self.provider.latency(latency)
        self.table("plain")
        self.table("document", f", {STATUS}")
        self.db.execute("DROP TABLE IF EXISTS old_embedding")
        self.db.execute("""CREATE TABLE old_embedding (id bigserial PRIMARY KEY, chatbot_id int, document_id bigint,
            chunk_index int, content text, embedding vector(384))""")
        chunks = [chunks for _, _, chunks in self.documents]
        whole = sum(chunks, [])
        statements = [sum(chunks[at : at + STATEMENT], []) for at in range(0, len(chunks), STATEMENT)]
        ours, limit, by_statement, old = [], [], [], []
        for at in range(ROUNDS):
            self.clean("document", "plain", "old_embedding")
            limit.append(self.provider.send_bare([whole]))
            self.provider.inputs()
            ours.append(timed(self.insert_documents, "document"))
            sent = self.provider.inputs()
            by_statement.append(self.provider.send_bare(statements))
            synced = "SELECT count(*) FROM document WHERE sync_status = 'synced' AND processed"
            assert self.db.execute(synced).fetchone()[0] == len(self.documents)
            assert sent == len(whole), f"{sent} texts sent, not {len(whole)}"
            if at == 0:
                wrong = missing_and_extra(self.db, [CHATBOT], ["document"])
                assert wrong == (0, 0), f"{wrong} chunks missing and too many"
            if at < OLD_ROUNDS:
                old.append(timed(self.run_call_per_document))
                count = self.db.execute("SELECT count(*) FROM old_embedding").fetchone()[0]
                assert count == len(whole), f"{count} rows, not {len(whole)}"
        print(f"\nINSERT of {len(chunks)} documents, {len(whole)} chunks, {STATEMENT} a statement, {latency} ms a request")
        row("INSERT INTO an attached table", ours, "s")
        row("provider alone, all chunks at once", limit, "s")
        row("provider alone, statement by statement", by_statement, "s")
        row("INSERT / provider alone, all at once", ratios(ours, limit))
        row("INSERT / provider alone, statement by statement", ratios(ours, by_statement))
        row(f"a call a document / INSERT ({OLD_ROUNDS} rounds)", ratios(old, ours))
        self.clean("document", "plain", "old_embedding")

    def in_turns(self, rounds, tables, work):
        """Returns the times of the same work on each table, in changing order."""
        times = {table: [] for table in tables}
        for at in range(rounds):
            for turn in range(len(tables)):
                table = tables[(at + turn) % len(tables)]
                times[table].append(timed(work, table, at))
        return times

    def create_three_tables(self, **how):
        self.provider.latency(0)
        mode = f", mode => '{how.get('mode', 'sync')}'"
        self.table("plain")
        self.table("attached", mode)
        self.table("with_status", f"{mode}, {STATUS}")
        return ["plain", "attached", "with_status"]

    def blocks(self, times, size=BLOCK):
        blocks = {name: [values[at : at + size] for at in range(0, len(values), size)] for name, values in times.items()}
        return {name: [statistics.median(block) for block in values] for name, values in blocks.items()}

    def report(self, times, target=""):
        plain = times["plain"]
        for table in "attached", "with_status":
            row(f"{table} / plain", ratios(times[table], plain), target=target)
        row("plain", [t * 1e6 for t in plain], "us")
        for table in "attached", "with_status":
            row(f"{table} - plain", [(a - b) * 1e6 for a, b in zip(times[table], plain)], "us")

    def updates(self, count=1000, size=8192):
        tables = self.create_three_tables()
        manual = "".join(content for _, content, _ in self.documents)
        texts = [manual[at * size % (len(manual) - size) :][:size] for at in range(count)]
        for at, table in enumerate(tables):
            with self.db.transaction(), self.db.cursor() as cursor:
                rows = [(CHATBOT + at, text) for text in texts]
                # With status columns of the same size, the rows of all three tables are equally long.
                sql = f"INSERT INTO {table} (chatbot_id, content, sync_status, processed) VALUES (%s, %s, 'synced', true)"
                cursor.executemany(sql, rows)
            self.db.execute(f"VACUUM ANALYZE {table}")
        self.db.execute("SET synchronous_commit = off")
        self.provider.inputs()

        def all_rows(table, _):
            self.db.execute(f"UPDATE {table} SET visits = visits + 1", prepare=True)

        def one_row(table, at):
            self.db.execute(f"UPDATE {table} SET visits = visits + 1 WHERE id = %s", [at % count + 1], prepare=True)

        times = {table: [] for table in tables}
        for _ in range(UPDATE_ROUNDS // 3):
            for table, more in self.in_turns(3, tables, all_rows).items():
                times[table] += more
            for table in tables:
                self.db.execute(f"VACUUM {table}")
        print(f"\nUPDATE of another column, {count} rows of {size} characters, {UPDATE_ROUNDS} rounds, no commit waits for the disk")
        self.report(self.blocks(times, UPDATE_BLOCK), "target <= 1.5")
        self.in_turns(10, tables, one_row)
        print(f"\nThe same of one row by its id, {SINGLE_ROUNDS} rounds, the client's round trip included")
        self.report(self.blocks(self.in_turns(SINGLE_ROUNDS, tables, one_row)))
        assert self.provider.inputs() == 0, "an unrelated column was embedded"
        self.db.execute("RESET synchronous_commit")

    def prices(self, count=1000, size=1024):
        """A column that the condition reads and no text has, as a price in Odoo: texts with translations, several of them, and a
        constant chatbot."""
        tables = ["plain", "attached"]
        manual = "".join(content for _, content, _ in self.documents)
        for table in tables:
            self.db.execute(f"DROP TABLE IF EXISTS {table}")
            self.db.execute(f"""CREATE TABLE {table} (id serial PRIMARY KEY, name jsonb, description jsonb, active boolean DEFAULT true,
                sale_ok boolean DEFAULT true, list_price numeric DEFAULT 1) WITH (autovacuum_enabled = off)""")
            with self.db.transaction(), self.db.cursor() as cursor:
                cursor.executemany(
                    f"""INSERT INTO {table} (name, description)
                        VALUES (jsonb_build_object('en_US', %s::text), jsonb_build_object('en_US', %s::text))""",
                    [(f"Product {at}", manual[at * size % (len(manual) - size) :][:size]) for at in range(count)],
                )
        self.db.execute("""SELECT chatbot_attach('attached', 'document', chatbot_id => %s, title_column => 'name',
            content_columns => '{name,description}', content_formats => '{text,html}',
            condition => 'active IS TRUE AND sale_ok IS TRUE AND list_price > 0')""", [CHATBOT])
        self.db.execute("CALL chatbot_sync_all()")
        for table in tables:
            self.db.execute(f"VACUUM ANALYZE {table}")
        self.db.execute("SET synchronous_commit = off")
        self.provider.inputs()
        times = {table: [] for table in tables}
        for _ in range(UPDATE_ROUNDS // 3):
            update = lambda table, _: self.db.execute(f"UPDATE {table} SET list_price = list_price + 1", prepare=True)
            for table, more in self.in_turns(3, tables, update).items():
                times[table] += more
            for table in tables:
                self.db.execute(f"VACUUM {table}")
        blocks = self.blocks(times, UPDATE_BLOCK)
        print(f"\nUPDATE of the price of {count} products, which the condition reads, {UPDATE_ROUNDS} rounds")
        row("attached / plain", ratios(blocks["attached"], blocks["plain"]), target="target <= 1.5")
        assert self.provider.inputs() == 0, "a price was embedded"
        self.db.execute("RESET synchronous_commit")

    def queued(self):
        text = "A short text that has one chunk. " * 6
        for commit in "off", "on":
            tables = self.create_three_tables(mode="async")
            self.db.execute(f"SET synchronous_commit = {commit}")

            def one_row(table, at):
                values = [CHATBOT + tables.index(table), text]
                self.db.execute(f"INSERT INTO {table} (chatbot_id, content) VALUES (%s, %s)", values, prepare=True)

            self.in_turns(10, tables, one_row)
            times = self.in_turns(SINGLE_ROUNDS, tables, one_row)
            print(f"\nINSERT of one row, mode async, {SINGLE_ROUNDS} rounds, round trip included, synchronous_commit = {commit}")
            self.report(self.blocks(times))
        self.db.execute("RESET synchronous_commit")

    def run(self):
        try:
            heading()
            self.inserts()
            self.updates()
            self.prices()
            self.queued()
        finally:
            for table in "document", "plain", "attached", "with_status", "old_embedding":
                self.db.execute(f"DROP TABLE IF EXISTS {table}")
            reset_provider(self.db)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    Bench(sys.argv[1]).run()
