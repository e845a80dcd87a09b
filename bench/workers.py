#!/usr/bin/env python3
"""Measures the queue and its workers: the time for a backlog, the delay of one edit, and what a killed worker costs.

    pip install 'psycopg[binary]'
    python3 bench/workers.py "host=/run/postgresql user=postgres dbname=mydb" [ROUNDS [KILLS [PORT SERVICE]]]

The first argument is a libpq connection string of a superuser, for the only database of a throw-away server that
preloads a release build of the extension with default settings. The database has a table page (id bigint, title text,
content text) with a thousand pages or more. The server has to run on this machine: its processes are KILLED, and all
vectors of the database are DELETED. SERVICE is the address of a service of the kind that the extension replaces,
which uses the provider at PORT of this machine; it gets the same documents, one call each.
"""
import http.client, json, os, random, signal, statistics, sys, time, urllib.parse
import psycopg
from common import Provider, documents, reset_provider, heading, missing_and_extra, ratios, row, timed, use_provider

ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 5
KILLS = int(sys.argv[3]) if len(sys.argv) > 3 else 100
PORT = int(sys.argv[4]) if len(sys.argv) > 4 else 0
SERVICE = urllib.parse.urlsplit(sys.argv[5]).netloc if len(sys.argv) > 5 else None
EDITS = 20 * ROUNDS
CHATBOTS = 10
TABLES = "note", "note_sync", "backlog", "at_once"


class Bench:
    def __init__(self, connection):
        self.connection = connection
        self.connect()
        self.provider = Provider(PORT)
        self.provider.latency(0)
        use_provider(self.db, self.provider)
        self.documents = documents(self.db)
        self.chunks = sum((chunks for _, _, chunks in self.documents), [])

    def connect(self):
        """Connects again and again while the server recovers."""
        for _ in range(6000):
            try:
                self.db = psycopg.connect(self.connection, autocommit=True)
                self.db.execute("SET jit = off")
                self.db.execute("SET client_min_messages = error")
                return
            except psycopg.OperationalError:
                time.sleep(0.01)
        sys.exit("the server did not come back")

    def one(self, sql, *args):
        return self.db.execute(sql, args, prepare=True).fetchone()[0]

    def set(self, **settings):
        for name, value in settings.items():
            self.db.execute(f"ALTER SYSTEM SET chatbot_sync.{name} = '{value}'")
        self.db.execute("SELECT pg_reload_conf()")
        time.sleep(0.1)

    def table(self, name, mode):
        self.db.execute(f"DROP TABLE IF EXISTS {name}")
        self.db.execute(f"""CREATE TABLE {name} (id bigint, chatbot_id bigint, content text, sync_status text,
            PRIMARY KEY (chatbot_id, id))""")
        self.db.execute(f"ALTER TABLE {name} ADD UNIQUE (id)")
        self.db.execute(f"SELECT chatbot_attach('{name}', 'document', status_column => 'sync_status', mode => '{mode}')")

    def workers(self):
        sql = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'chatbot_sync worker'"
        return [pid for pid, in self.db.execute(sql, prepare=True)]

    def wait_for(self, condition, seconds=300, pause=0.01):
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                sys.exit(f"waited {seconds} seconds for {condition.__name__}")
            time.sleep(pause)

    def is_idle(self):
        return not self.workers()

    def is_busy(self):
        return self.workers() or self.is_queue_empty()

    def is_queue_empty(self):
        return not self.one("SELECT EXISTS (SELECT FROM chatbot_sync.job)")

    def are_statuses_written(self):
        return not self.one("SELECT EXISTS (SELECT FROM backlog WHERE sync_status <> 'synced')")

    def clean(self):
        self.db.execute("TRUNCATE backlog")
        self.wait_for(self.is_idle)
        self.db.execute("VACUUM chatbot_sync.source, chatbot_sync.embedding, chatbot_sync.job, backlog")
        self.db.execute("CHECKPOINT")

    def insert(self, table="backlog", first=0):
        """Inserts the thousand documents of ten chatbots in one statement."""
        ids, texts = [first + id for id, _, _ in self.documents], [content for _, content, _ in self.documents]
        sql = f"""INSERT INTO {table} (id, chatbot_id, content)
            SELECT id, id %% %s + 1, content FROM unnest(%s::bigint[], %s::text[]) AS n (id, content)"""
        self.db.execute(sql, [CHATBOTS, ids, texts])

    def check(self, sources):
        assert self.one("SELECT count(*) FROM chatbot_sync.source WHERE status = 'synced'") == sources
        return missing_and_extra(self.db, range(1, CHATBOTS + 1), ["backlog"])

    def time_backlog(self, workers):
        """Returns the seconds from the commit until the queue is empty. Without workers this session processes the
        queue."""
        self.clean()
        self.insert()
        start = time.perf_counter()
        if workers:
            self.wait_for(self.is_queue_empty)
        else:
            self.db.execute("CALL chatbot_process_queue()")
        seconds = time.perf_counter() - start
        self.wait_for(self.are_statuses_written)
        return seconds

    def by_service(self):
        """Sends the same documents to the service as an application does, one call after the other."""
        connection = http.client.HTTPConnection(SERVICE)
        for id, content, _ in self.documents:
            body = json.dumps({"chatbot_id": id % CHATBOTS + 1, "content": content})
            headers = {"Content-Type": "application/json", "X-Odoo-API-Key": os.environ.get("SERVICE_KEY", "")}
            connection.request("POST", f"/api/internal/document/{id}/embed", body, headers)
            answer = connection.getresponse()
            assert answer.read() and answer.status == 200, answer.status

    def at_once(self):
        """Returns the seconds of inserting the same documents in mode sync."""
        self.clean()
        seconds = timed(self.insert, "at_once")
        self.db.execute("TRUNCATE at_once")
        return seconds

    def backlog(self, latency):
        self.table("backlog", "async")
        self.table("at_once", "sync")
        self.provider.latency(latency)
        ways = ("CALL chatbot_process_queue()", 0, 4), ("1 worker", 1, 4), ("2 workers", 2, 8)
        ours, limits, at_once, service = {name: [] for name, *_ in ways}, {4: [], 8: []}, [], []
        for at in range(ROUNDS):
            for parallel, times in limits.items():
                times.append(self.provider.send_bare([self.chunks], parallel=parallel))
            at_once.append(self.at_once())
            if SERVICE:
                service.append(timed(self.by_service))
            for name, workers, _ in ways:
                # With a list that does not name this database it has no workers.
                self.set(workers_per_database=max(workers, 1), databases="" if workers else "no_such_database")
                self.provider.inputs()
                ours[name].append(self.time_backlog(workers))
                sent = self.provider.inputs()
                if at == 0:
                    wrong = self.check(len(self.documents))
                    assert wrong == (0, 0), f"{wrong} chunks missing and too many"
                    assert sent <= len(self.chunks), f"{sent} texts sent for {len(self.chunks)} chunks"
        print(f"\nBacklog of {len(self.documents)} documents, {len(self.chunks)} chunks, {latency} ms a request, {ROUNDS} rounds")
        for parallel, times in limits.items():
            row(f"provider alone, {parallel} requests at a time", times, "s")
        row("the INSERT itself, mode sync", at_once, "s")
        for name, _, parallel in ways:
            row(name, ours[name], "s")
            row(f"{name} / provider alone, {parallel} at a time", ratios(ours[name], limits[parallel]))
            row(f"{name} / mode sync", ratios(ours[name], at_once))
        for name, *_ in ways if SERVICE else ():
            row(f"service / {name}", ratios(service, ours[name]))
        row("1 worker / 2 workers", ratios(ours["1 worker"], ours["2 workers"]))
        self.set(workers_per_database=2, databases="")
        self.clean()

    def edit(self, table, id):
        text = f"A short note, number {id}, that has one chunk."
        self.db.execute(f"INSERT INTO {table} (id, chatbot_id, content) VALUES (%s, 1, %s)", [id, text], prepare=True)

    def wait_until_synced(self, id):
        """Waits until a source is synced, checking every half millisecond."""
        sql = "SELECT status FROM chatbot_sync.source WHERE chatbot_id = 1 AND source_type = 'document' AND source_id = %s"
        while self.one(sql, id) != "synced":
            time.sleep(0.0005)

    def connect_and_leave(self):
        with psycopg.connect(self.connection) as db:
            db.execute("SELECT 1")

    def latency(self, latency=20):
        self.provider.latency(latency)
        self.table("note", "async")
        self.table("note_sync", "sync")
        over, sync, connecting, bare = [], [], [], []
        for id in range(1, EDITS + 11):
            self.wait_for(self.is_idle)
            self.edit("note", id)
            over.append(timed(self.wait_until_synced, id) * 1000 - latency)
            sync.append(timed(self.edit, "note_sync", 10_000 + id) * 1000 - latency)
            connecting.append(timed(self.connect_and_leave) * 1000)
            bare.append(self.provider.send_bare([["A short note that has one chunk."]]) * 1000 - latency)
        over, sync, connecting, bare = (times[10:] for times in (over, sync, connecting, bare))
        print(f"\nOne small document, {latency} ms a request, {len(over)} times, no worker running: what comes on top")
        row("commit to synced", over, "ms")
        row("commit to synced, p95", [statistics.quantiles(over, n=20)[-1]], "ms")
        row("all of it / the provider's latency", [(t + latency) / latency for t in over])
        row("a row of mode sync, INSERT to answer", sync, "ms")
        row("a new connection and SELECT 1", connecting, "ms")
        row("the request alone, a new connection to the provider", bare, "ms")
        self.wait_for(self.is_idle)
        self.db.execute("TRUNCATE note, note_sync")

    def kill(self, pid, how):
        """Sends a signal to a process. Returns whether it existed. After SIGKILL it waits until the server has
        recovered."""
        try:
            os.kill(pid, how)
        except ProcessLookupError:
            return False
        if how == signal.SIGKILL:
            until = time.monotonic() + 60
            try:
                while time.monotonic() < until:
                    self.db.execute("SELECT 1")
                    time.sleep(0.01)
            except psycopg.OperationalError:
                self.connect()
        return True

    def kills(self, latency=20):
        self.table("backlog", "async")
        self.provider.latency(latency)
        self.clean()
        self.set(naptime=1)
        self.provider.inputs()
        whole = self.time_backlog(2)
        undisturbed = self.provider.inputs()
        self.clean()
        dice = random.Random(1)
        self.provider.inputs()
        backlogs = killed = hard = 0
        began = time.monotonic()
        while killed < KILLS:
            if self.is_queue_empty():
                self.insert(first=backlogs * 10_000)
                backlogs += 1
            self.wait_for(self.is_busy)
            time.sleep(dice.uniform(0, whole))
            workers = self.workers()
            how = signal.SIGKILL if killed % 10 == 9 else signal.SIGTERM
            if workers and not self.is_queue_empty() and self.kill(dice.choice(workers), how):
                killed += 1
                hard += how == signal.SIGKILL
        self.wait_for(self.is_queue_empty)
        self.wait_for(self.is_idle)
        took = time.monotonic() - began
        sent, due = self.provider.inputs(), undisturbed * backlogs
        missing, extra = self.check(backlogs * len(self.documents))
        print(f"\nWorkers killed at random moments of {backlogs} backlogs, {latency} ms a request, within {took:.0f} s")
        print(f"kills: {killed}, of them SIGKILL: {hard}; time / undisturbed: {took / (whole * backlogs):.1f}")
        print(f"chunks lost: {missing}, doubled: {extra}, of {backlogs * len(self.chunks)}")
        unwritten = self.one("SELECT count(*) FROM backlog WHERE sync_status <> 'synced'")
        print(f"rows whose status column was left behind: {unwritten}")
        print(f"texts sent: {sent}, for {due} that an undisturbed run sends: {sent / due - 1:.1%} twice, {(sent - due) / killed:.0f} a kill")
        assert (missing, extra) == (0, 0)
        self.db.execute("ALTER SYSTEM RESET chatbot_sync.naptime")
        self.db.execute("SELECT pg_reload_conf()")

    def run(self):
        try:
            heading()
            self.backlog(0)
            self.backlog(50)
            self.latency()
            self.kills()
        finally:
            for table in TABLES:
                self.db.execute(f"DROP TABLE IF EXISTS {table}")
            for setting in "naptime", "workers_per_database", "databases":
                self.db.execute(f"ALTER SYSTEM RESET chatbot_sync.{setting}")
            reset_provider(self.db)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    Bench(sys.argv[1]).run()
