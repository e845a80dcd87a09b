#!/usr/bin/env python3
"""Stress test: sixteen clients, a provider that fails at random, killed sessions and workers, and a crash; then all
data is compared.

    pip install 'psycopg[binary]'
    python3 bench/soak.py "host=/run/postgresql user=postgres dbname=mydb" [SECONDS [SEED]]

The first argument is a libpq connection string of a superuser, for an empty database of a throw-away server on this
machine that preloads the extension: its processes are KILLED. The server may be restarted meanwhile. The exit status
is 0 if nothing was lost, stale, doubled or resurrected.
"""
import collections, hashlib, http.server, json, multiprocessing, os, random, signal, struct, sys, threading, time
import psycopg

SECONDS = int(sys.argv[2]) if len(sys.argv) > 2 else 180
SEED = int(sys.argv[3]) if len(sys.argv) > 3 else time.time_ns() % 1_000_000
CLIENTS = 16
CHATBOTS = 12
DIMENSIONS = 8
TABLES = {"documents": "document", "links": "link"}
# SQLSTATEs that a client may get. Any other, such as an internal error, is a defect.
EXPECTED = {
    "40001", "40P01", "55P03",  # conflicts, which Odoo retries
    "57014", "57P01", "57P02", "57P03", "08006", "08003", "08000", "lost",  # cancelled, killed, or lost in the crash
    "HV00N", "58030", "HV000", "53000", "HV00L", "HV00M",  # faults of the provider, in searches and where on_error is raise
    "23503",  # the chatbot was deleted
}


def vector(text):
    digest = hashlib.sha256(text.encode()).digest()
    return [byte / 256 + 0.001 for byte in digest[:DIMENSIONS]]


def provider(port, faults, texts_sent, seed):
    """Serves OpenAI's protocol. A fault is a response that is late, refused, cut off or malformed, or none at all."""
    dice = random.Random(seed)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def send(self, status, body, **headers):
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            texts = json.loads(self.rfile.read(int(self.headers["content-length"])))["input"]
            with texts_sent.get_lock():
                texts_sent.value += len(texts)
            data = [{"index": at, "embedding": vector(text)} for at, text in enumerate(texts)]
            fault = dice.random() if faults.value else 1
            time.sleep(dice.uniform(0, 0.03))
            if fault < 0.02:
                return self.send(500, b'{"error": {"message": "out of order"}}')
            if fault < 0.04:
                return self.send(429, b'{"error": {"message": "slower"}}', retry_after="0.2")
            if fault < 0.05:
                return self.send(400, b'{"error": {"message": "this text will not do"}}')
            if fault < 0.06:
                self.close_connection = True
                return self.connection.close()
            if fault < 0.07:
                time.sleep(dice.uniform(0.5, 4))
            elif fault < 0.08:
                data.pop()
            elif fault < 0.09:
                data[0]["embedding"] = [1.0]
            elif fault < 0.10:
                data.reverse()
            body = json.dumps({"data": data, "usage": {"total_tokens": len(texts)}}).encode()
            if 0.10 <= fault < 0.11:
                self.close_connection = True
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                return self.wfile.write(body[:len(body) // 2])
            self.send(200, body)

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 256
        daemon_threads = True

        def handle_error(self, *_):
            pass  # the client has closed the connection

    server = Server(("127.0.0.1", 0), Handler)
    port.value = server.server_address[1]
    server.serve_forever()


def connect(connection, seconds=60):
    until = time.monotonic() + seconds
    while True:
        try:
            return psycopg.connect(connection, autocommit=True, options="-c client_min_messages=error")
        except psycopg.OperationalError:
            if time.monotonic() > until:
                sys.exit("the server did not come back")
            time.sleep(0.05)


class Client(threading.Thread):
    """A client that does what applications do, in transactions at REPEATABLE READ, and retries conflicts as Odoo
    does."""

    def __init__(self, connection, seed, until):
        super().__init__(daemon=True)
        self.connection, self.dice, self.until = connection, random.Random(seed), until
        self.done, self.sqlstates, self.unexpected = collections.Counter(), collections.Counter(), []

    def text(self):
        sentences = self.dice.choice([1, 1, 1, 2, 5, 30, 120])
        words = "refund parcel invoice customer office delivery voucher return machine password account order".split()
        return " ".join(f"{' '.join(self.dice.choices(words, k=9)).capitalize()} {self.dice.randrange(10**6)}." for _ in range(sentences))

    def run(self):
        self.db = connect(self.connection)
        while time.monotonic() < self.until:
            work = self.dice.choices(
                [self.insert, self.update, self.rename, self.delete, self.move, self.switch, self.search, self.embed, self.undo,
                 self.impatient, self.forget_chatbot, self.sessions, self.retry],
                [20, 20, 6, 10, 6, 4, 12, 6, 6, 5, 1, 3, 2])[0]
            for _ in range(5):
                state = self.attempt(work)
                if state not in ("40001", "40P01", "55P03"):
                    break

    def attempt(self, work):
        try:
            with self.db.transaction():
                self.db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                work()
            self.done[work.__name__] += 1
            return None
        except psycopg.Error as error:
            state = error.sqlstate or "lost"
            self.sqlstates[state] += 1
            if state not in EXPECTED:
                self.unexpected.append(f"{work.__name__}: {state} {error}")
            if self.db.closed or self.db.broken:
                self.db = connect(self.connection)
            return state
        except psycopg.Rollback:  # the connection was lost within the transaction
            self.sqlstates["lost"] += 1
            self.db = connect(self.connection)
            return "lost"

    def some_ids(self, table, least=1):
        rows = self.db.execute(f"SELECT id FROM {table} TABLESAMPLE SYSTEM (30) LIMIT 200").fetchall()
        return self.dice.sample([id for id, in rows], min(len(rows), self.dice.choice([least, 1, 1, 5])))

    def table(self):
        return self.dice.choice(list(TABLES))

    def chatbot(self):
        return self.dice.randint(1, CHATBOTS)

    def insert(self):
        rows = self.dice.choice([1, 1, 1, 3, 20])
        values = [v for _ in range(rows) for v in (self.chatbot(), "title", self.text())]
        places = ", ".join(["(%s, %s, %s)"] * rows)
        self.db.execute(f"INSERT INTO {self.table()} (chatbot_id, title, content) VALUES {places}", values)

    def update(self):
        table = self.table()
        for id in self.some_ids(table):
            if self.dice.random() < 0.5:
                self.db.execute(f"UPDATE {table} SET content = %s WHERE id = %s", [self.text(), id])
            else:
                self.db.execute(f"UPDATE {table} SET content = content || ' ' || %s WHERE id = %s", [self.text()[:60], id])

    def rename(self):
        table = self.table()
        self.db.execute(f"UPDATE {table} SET title = %s WHERE id = ANY(%s)", [str(self.dice.random()), self.some_ids(table)])

    def delete(self):
        table = self.table()
        self.db.execute(f"DELETE FROM {table} WHERE id = ANY(%s)", [self.some_ids(table)])

    def move(self):
        table = self.table()
        self.db.execute(f"UPDATE {table} SET chatbot_id = %s WHERE id = ANY(%s)", [self.chatbot(), self.some_ids(table)])

    def switch(self):
        table = self.table()
        self.db.execute(f"UPDATE {table} SET active = NOT active WHERE id = ANY(%s)", [self.some_ids(table)])

    def search(self):
        mode = self.dice.choice(["hybrid", "vector", "text"])
        self.db.execute("SELECT * FROM chatbot_search(%s, %s, mode => %s)", [self.chatbot(), self.text()[:50], mode])

    def embed(self):
        """Embeds sources without a host table."""
        id = 10**9 + self.dice.randrange(40)
        if self.dice.random() < 0.3:
            self.db.execute("SELECT chatbot_delete_source(99, 'document', %s)", [id])
            self.db.execute("DELETE FROM own WHERE id = %s", [id])
        else:
            text = self.text()
            function = self.dice.choice(["chatbot_embed_source", "chatbot_enqueue_source"])
            self.db.execute("INSERT INTO own VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET content = EXCLUDED.content", [id, text])
            self.db.execute(f"SELECT {function}(99, 'document', %s, %s)", [id, text])

    def undo(self):
        self.insert()
        with self.db.transaction():
            self.delete()
            self.update()
            raise psycopg.Rollback
        self.move()
        raise psycopg.Rollback

    def impatient(self):
        self.db.execute(f"SET LOCAL statement_timeout = {self.dice.randint(1, 60)}")
        self.dice.choice([self.insert, self.update, self.search])()

    def forget_chatbot(self):
        chatbot = self.chatbot()
        self.db.execute("DELETE FROM chatbots WHERE id = %s", [chatbot])
        self.db.execute("INSERT INTO chatbots VALUES (%s)", [chatbot])

    def sessions(self):
        self.db.execute("SELECT chatbot_session_add_message(chatbot_session_open(%s), 'user', 'Hello')", [self.chatbot()])

    def retry(self):
        self.db.execute("SELECT chatbot_retry()")


def chaos(connection, seed, until, counts):
    """Ends sessions and workers at random, and sometimes kills a worker, which makes the server recover."""
    dice = random.Random(seed)
    db = connect(connection)
    while time.monotonic() < until:
        time.sleep(dice.uniform(0.2, 2))
        try:
            pids = db.execute("""SELECT pid, backend_type = 'chatbot_sync worker' FROM pg_stat_activity
                WHERE pid <> pg_backend_pid() AND backend_type IN ('client backend', 'chatbot_sync worker')""").fetchall()
            if not pids:
                continue
            pid, worker = dice.choice(pids)
            how = signal.SIGKILL if worker and dice.random() < 0.15 else signal.SIGTERM
            os.kill(pid, how)
            counts["killed (SIGKILL)" if how == signal.SIGKILL else "workers ended" if worker else "sessions ended"] += 1
        except ProcessLookupError:
            pass
        except psycopg.Error:
            counts["recoveries seen"] += 1
            db = connect(connection)


def set_up(db, port):
    for name, value in {"openai_compatible_url": f"http://127.0.0.1:{port}/v1", "sync_timeout": 3000, "retry_delay": 200, "naptime": 1}.items():
        db.execute(f"ALTER SYSTEM SET chatbot_sync.{name} = '{value}'")
    db.execute("SELECT pg_reload_conf()")
    while db.execute("SHOW chatbot_sync.naptime").fetchone()[0] != "1s":
        time.sleep(0.05)
    db.execute("CREATE EXTENSION chatbot_sync CASCADE")
    db.execute("SELECT chatbot_set_model('openai_compatible', 'mock', %s)", [DIMENSIONS])
    db.execute("CREATE TABLE chatbots (id bigint PRIMARY KEY)")
    db.execute("CREATE TABLE own (id bigint PRIMARY KEY, content text)")
    db.execute("INSERT INTO chatbots SELECT generate_series(1, %s)", [CHATBOTS])
    for table, source_type in TABLES.items():
        db.execute(f"""CREATE TABLE {table} (id bigserial PRIMARY KEY, chatbot_id bigint NOT NULL REFERENCES chatbots ON DELETE CASCADE,
            title text, content text, active boolean NOT NULL DEFAULT true, status text, processed boolean, error text)""")
        db.execute(f"CREATE INDEX ON {table} (chatbot_id)")
        db.execute("""SELECT chatbot_attach(%s, %s, metadata_columns => '{title}', enabled_column => 'active', status_column => 'status',
            processed_column => 'processed', error_column => 'error', mode => %s)""",
            [table, source_type, "async" if table == "links" else "sync"])
    db.execute("SELECT chatbot_attach_chatbots('chatbots')")


def drain(db):
    """Retries what failed until nothing is pending and the queue is empty, for three minutes at most."""
    until = time.monotonic() + 180
    left = "SELECT (SELECT count(*) FROM chatbot_sync.job), (SELECT count(*) FROM chatbot_sync.source WHERE status <> 'synced' AND enabled)"
    while db.execute(left).fetchone() != (0, 0):
        if time.monotonic() > until:
            return
        db.execute("SELECT chatbot_retry()")
        db.execute("CALL chatbot_sync_all()")
        db.execute("CALL chatbot_process_queue()")
        time.sleep(0.2)


def compare(db):
    """Returns each difference between what is stored and what should be, as a line."""
    wrong = [f"job {row}" for row in db.execute("SELECT * FROM chatbot_sync.job LIMIT 5")]
    wrong += [f"source {row}" for row in db.execute("SELECT chatbot_id, source_type, source_id, status, error FROM chatbot_sync.source WHERE status <> 'synced' AND enabled LIMIT 5")]
    wrong += [f"verify {row}" for row in db.execute("SELECT * FROM chatbot_verify() LIMIT 20")]
    rows = " UNION ALL ".join(
        f"SELECT chatbot_id, '{source_type}' AS source_type, id, content, active, jsonb_build_object('title', title) AS metadata FROM {table}" for table, source_type in TABLES.items())
    rows += " UNION ALL SELECT 99, 'document', id, content, true, '{}' FROM own"
    should = f"SELECT h.chatbot_id, h.source_type, h.id, c.chunk_index, c.content, h.metadata FROM ({rows}) AS h, chatbot_chunk(h.content) AS c WHERE h.active"
    stored = "SELECT chatbot_id, source_type, source_id, chunk_index, content, metadata FROM chatbot_sync.embedding WHERE enabled"
    for problem, sql in (("missing", f"{should} EXCEPT ALL {stored}"), ("too many", f"{stored} EXCEPT ALL {should}")):
        wrong += [f"{problem} {row}" for row in db.execute(f"SELECT * FROM ({sql}) AS d LIMIT 10")]
    resurrected = f"SELECT chatbot_id, source_type, source_id FROM chatbot_sync.source EXCEPT SELECT chatbot_id, source_type, id FROM ({rows}) AS h"
    wrong += [f"resurrected {row}" for row in db.execute(resurrected)]
    for table in TABLES:
        sql = f"SELECT id, status, processed, error FROM {table} WHERE active AND (status, processed, error) IS DISTINCT FROM ('synced', true, NULL) LIMIT 5"
        wrong += [f"status of {table} {row}" for row in db.execute(sql)]
    chunks = 0
    for content, stored_vector in db.execute("SELECT content, embedding::text FROM chatbot_sync.embedding"):
        chunks += 1
        expected = [struct.unpack("f", struct.pack("f", x))[0] for x in vector(content)]
        if any(abs(a - b) > 1e-5 for a, b in zip(expected, json.loads(stored_vector), strict=True)):
            wrong.append(f"the vector of another text: {content[:60]}")
    return wrong, chunks


def main():
    connection = sys.argv[1]
    port, faults, texts_sent = multiprocessing.Value("i", 0), multiprocessing.Value("b", 0), multiprocessing.Value("q", 0)
    multiprocessing.Process(target=provider, args=(port, faults, texts_sent, SEED), daemon=True).start()
    while not port.value:
        time.sleep(0.01)
    set_up(connect(connection), port.value)
    print(f"{CLIENTS} clients for {SECONDS} s, seed {SEED}", flush=True)
    faults.value = 1
    until = time.monotonic() + SECONDS
    clients = [Client(connection, SEED + at, until) for at in range(CLIENTS)]
    counts = collections.Counter()
    threads = clients + [threading.Thread(target=chaos, args=(connection, SEED, until, counts), daemon=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS + 120)
    stuck = sum(thread.is_alive() for thread in threads)
    faults.value = 0
    db = connect(connection)
    drain(db)
    wrong, chunks = compare(db)
    wrong += [f"{stuck} clients hang"] * bool(stuck)
    wrong += sum((client.unexpected for client in clients), [])[:20]
    done, sqlstates = sum((c.done for c in clients), collections.Counter()), sum((c.sqlstates for c in clients), collections.Counter())
    print(f"done: {sum(done.values())} ({', '.join(f'{n} {k}' for k, n in done.most_common())})")
    print(f"errors: {sum(sqlstates.values())} ({', '.join(f'{n} {k}' for k, n in sqlstates.most_common())})")
    print(f"{', '.join(f'{n} {k}' for k, n in counts.most_common())}; texts sent: {texts_sent.value}")
    print(f"compared: {chunks} chunks; wrong: {len(wrong)}")
    print("\n".join(wrong))
    sys.exit(1 if wrong or not done else 0)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main()
