//! The cost of a row does not depend on how many rows there are, whatever the statistics say. The tests count the rows
//! and index entries that are read, and the memory that is used.

use postgres::Client;

use super::harness::{Db, query_value};

const SYNC: &str =
    "SELECT chatbot_attach('documents', 'document', metadata_columns => '{title}', enabled_column => 'active',
        status_column => 'status');
    SELECT chatbot_attach_chatbots('chatbots');";
const ASYNC: &str =
    "SELECT chatbot_attach('documents', 'document', metadata_columns => '{title}', enabled_column => 'active',
        status_column => 'status', mode => 'async');
    SELECT chatbot_attach_chatbots('chatbots');";
const INSERT: &str = "INSERT INTO documents (chatbot_id, title, content)
    SELECT BOT, 'Title', 'Document ' || i FROM generate_series(1, ROWS) AS i";
const QUEUE: &str = "CALL chatbot_process_queue()";
const DELETE_WITHOUT_TRIGGERS: &str =
    "SET session_replication_role = replica; DELETE FROM documents WHERE chatbot_id = BOT;
    RESET session_replication_role";
/// Planner settings that a user may have set for other statements.
const SETTINGS: &str = "SET plan_cache_mode = force_custom_plan; SET enable_nestloop = off; SET enable_indexscan = off;
    SET random_page_cost = 1000; SET from_collapse_limit = 1; SET cpu_tuple_cost = 0";

/// A statement on the rows of a chatbot, whose cost is measured.
struct MeasuredStatement {
    attach: &'static str,
    /// The statements before it, which are not measured.
    before: &'static str,
    statement: &'static str,
    /// Whether each row has to be read by its key, and not with all rows of its chatbot.
    by_key: bool,
}

const fn measured(
    attach: &'static str,
    before: &'static str,
    statement: &'static str,
    by_key: bool,
) -> MeasuredStatement {
    MeasuredStatement { attach, before, statement, by_key }
}

const STATEMENTS: [MeasuredStatement; 23] = [
    measured(SYNC, "DELETE FROM documents WHERE chatbot_id = BOT", INSERT, true),
    measured(SYNC, "", "UPDATE documents SET content = 'Edited ' || id WHERE chatbot_id = BOT", true),
    measured(SYNC, "", "UPDATE documents SET title = 'Another' WHERE chatbot_id = BOT", true),
    measured(SYNC, "", "UPDATE documents SET chatbot_id = BOT + 100 WHERE chatbot_id = BOT", true),
    measured(SYNC, "", "UPDATE documents SET id = id + 1000000 WHERE chatbot_id = BOT", true),
    measured(SYNC, "", "UPDATE documents SET active = false WHERE chatbot_id = BOT", true),
    measured(
        SYNC,
        "UPDATE documents SET active = false",
        "UPDATE documents SET active = true WHERE chatbot_id = BOT",
        true,
    ),
    measured(SYNC, "", "DELETE FROM documents WHERE chatbot_id = BOT", true),
    measured(SYNC, "", "DELETE FROM chatbots WHERE id = BOT", false),
    measured(SYNC, "", "UPDATE chatbots SET id = id + 200 WHERE id = BOT", true),
    measured(ASYNC, "", "UPDATE documents SET active = false WHERE chatbot_id = BOT", true),
    measured(ASYNC, "", "DELETE FROM documents WHERE chatbot_id = BOT", true),
    measured(ASYNC, "", "DELETE FROM chatbots WHERE id = BOT", false),
    measured(ASYNC, "UPDATE documents SET content = content || '.' WHERE chatbot_id = BOT", QUEUE, false),
    measured(ASYNC, "UPDATE documents SET chatbot_id = BOT + 100 WHERE chatbot_id = BOT", QUEUE, false),
    measured(ASYNC, "DELETE FROM documents WHERE chatbot_id = BOT", QUEUE, false),
    measured(SYNC, "UPDATE chatbot_sync.source SET status = 'pending'", "CALL chatbot_sync_all()", false),
    measured(SYNC, "", "SELECT count(*) FROM chatbot_verify()", false),
    measured(SYNC, DELETE_WITHOUT_TRIGGERS, "SELECT chatbot_repair()", false),
    measured(SYNC, "", "SELECT * FROM chatbot_estimate()", false),
    measured(
        SYNC,
        "UPDATE chatbot_sync.source SET status = 'error' WHERE chatbot_id = BOT",
        "SELECT chatbot_retry()",
        false,
    ),
    measured(SYNC, "", "SELECT chatbot_cleanup(BOT)", false),
    measured(SYNC, "", "SELECT chatbot_detach('documents', true)", false),
];

fn fill_in(sql: &str, chatbot: i32, rows: i32) -> String {
    sql.replace("BOT", &chatbot.to_string()).replace("ROWS", &rows.to_string())
}

/// Returns a database with documents of chatbot 1 and statistics that know no other chatbot, and a session that has its
/// plans from that time.
fn database_with_stale_statistics(kind: &MeasuredStatement) -> (Db, Client) {
    let mut db = Db::new();
    db.admin
        .batch_execute(
            "CREATE TABLE chatbots (id int PRIMARY KEY);
            CREATE TABLE documents (id serial PRIMARY KEY, chatbot_id int REFERENCES chatbots ON DELETE CASCADE ON UPDATE CASCADE,
                title text, content text, active boolean DEFAULT true, status text);
            CREATE INDEX ON documents (chatbot_id);
            INSERT INTO chatbots SELECT * FROM generate_series(1, 10);
            INSERT INTO chatbots SELECT * FROM generate_series(101, 110)",
        )
        .unwrap();
    db.admin
        .batch_execute(
            "ALTER TABLE documents SET (autovacuum_enabled = false);
            ALTER TABLE chatbot_sync.source SET (autovacuum_enabled = false);
            ALTER TABLE chatbot_sync.embedding SET (autovacuum_enabled = false);
            ALTER TABLE chatbot_sync.job SET (autovacuum_enabled = false)",
        )
        .unwrap();
    db.admin.batch_execute("VACUUM ANALYZE chatbot_sync.source, chatbot_sync.embedding, chatbot_sync.job").unwrap();
    db.admin.batch_execute(kind.attach).unwrap();
    let mut old = db.other();
    old.batch_execute(&fill_in(INSERT, 1, 50)).unwrap();
    if kind.statement.contains("BOT") {
        for sql in
            [&fill_in(INSERT, 3, 20), QUEUE, &fill_in(kind.before, 3, 20), &fill_in(kind.statement, 3, 20), QUEUE]
        {
            old.batch_execute(sql).unwrap();
        }
    }
    db.admin.batch_execute("ANALYZE chatbot_sync.source, chatbot_sync.embedding, chatbot_sync.job, documents").unwrap();
    (db, old)
}

/// Returns the number of rows and index entries that were read so far, and for each of our primary keys (name,
/// scans, entries read).
fn read(db: &mut Db, session: &mut Client) -> (i64, Vec<(String, i64, i64)>) {
    session.batch_execute("SELECT pg_stat_force_next_flush()").unwrap();
    let rows =
        "SELECT c.relname::text, pg_stat_get_numscans(c.oid), pg_stat_get_tuples_returned(c.oid), c.relkind = 'i'
        FROM pg_class c WHERE c.relkind IN ('r', 'i')
            AND c.relnamespace IN ('chatbot_sync'::regnamespace, 'public'::regnamespace)";
    let rows = db.admin.query(rows, &[]).unwrap();
    let all = rows.iter().map(|row| row.get::<_, i64>(2)).sum();
    let ours = rows.iter().filter(|row| row.get::<_, bool>(3) && row.get::<_, &str>(0).ends_with("_pkey"));
    (all, ours.map(|row| (row.get(0), row.get(1), row.get(2))).collect())
}

/// Whether another session holds a snapshot meanwhile, so that what is deleted stays in tables and indexes.
#[derive(Clone, Copy, PartialEq)]
enum OldSnapshot {
    None,
    Held,
}

/// Returns the number of rows and index entries that a statement reads for each of its rows.
fn cost_of_a_row(kind: &MeasuredStatement, settings: &str, snapshot: OldSnapshot, rows: i32) -> i64 {
    let (mut db, mut old) = database_with_stale_statistics(kind);
    let mut holder = db.other();
    if snapshot == OldSnapshot::Held {
        holder.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM chatbot_sync.job").unwrap();
    }
    old.batch_execute(&fill_in(INSERT, 2, rows)).unwrap();
    old.batch_execute(QUEUE).unwrap();
    old.batch_execute(&fill_in(kind.before, 2, rows)).unwrap();
    old.batch_execute(settings).unwrap();
    let (all, indexes) = read(&mut db, &mut old);
    old.batch_execute(&fill_in(kind.statement, 2, rows)).unwrap();
    let (all_after, indexes_after) = read(&mut db, &mut old);
    for ((index, scans, entries), (_, scans_after, entries_after)) in indexes.into_iter().zip(indexes_after) {
        if kind.by_key && index != "documents_pkey" && snapshot == OldSnapshot::None {
            let (scans, entries) = (scans_after - scans, entries_after - entries);
            assert!(
                entries <= 3 * scans,
                "{}: {scans} looks into {index} found {entries} entries, {rows} rows",
                kind.statement
            );
        }
    }
    (all_after - all) / i64::from(rows)
}

fn assert_linear(kinds: &[MeasuredStatement], settings: &str, snapshot: OldSnapshot) {
    for kind in kinds {
        let [small, large] = [100, 1000].map(|rows| cost_of_a_row(kind, settings, snapshot, rows));
        assert!(large * 10 <= small * 13 + 20, "{}: {small} reads a row, of many {large}", kind.statement);
    }
}

#[test]
fn cost_per_row_is_constant_in_mode_sync() {
    assert_linear(&STATEMENTS[..10], "", OldSnapshot::None);
}

#[test]
fn cost_per_row_is_constant_in_mode_async() {
    assert_linear(&STATEMENTS[10..16], "", OldSnapshot::None);
}

#[test]
fn cost_per_source_is_constant_in_calls() {
    assert_linear(&STATEMENTS[16..], "", OldSnapshot::None);
}

#[test]
fn settings_of_the_session_change_no_plan() {
    assert_linear(&STATEMENTS[5..8], SETTINGS, OldSnapshot::None);
}

#[test]
fn rows_cost_the_same_while_another_session_holds_an_old_snapshot() {
    assert_linear(&STATEMENTS[10..], "", OldSnapshot::Held);
}

#[test]
fn memory_does_not_grow_with_the_rows_of_a_statement() {
    const ROWS: i32 = 6000;
    const LIMIT: i32 = 48;
    let megabytes = |client: &mut Client, what: &str| {
        let sql =
            format!("SELECT (regexp_match(pg_read_file('/proc/self/status'), '{what}:\\s*(\\d+) kB'))[1]::int / 1024");
        query_value::<i32>(client, &sql)
    };
    for attach in [SYNC, ASYNC] {
        let (mut db, mut filler) = database_with_stale_statistics(&measured(attach, "", "", false));
        filler.batch_execute(&fill_in(INSERT, 2, ROWS)).unwrap();
        filler.batch_execute(QUEUE).unwrap();
        for statement in [
            "UPDATE documents SET active = false WHERE chatbot_id = 2",
            "UPDATE documents SET active = true WHERE chatbot_id = 2",
            "UPDATE documents SET title = 'Another' WHERE chatbot_id = 2",
            "UPDATE documents SET chatbot_id = 4 WHERE chatbot_id = 2",
            "UPDATE chatbots SET id = 2 WHERE id = 4; UPDATE documents SET chatbot_id = 2 WHERE chatbot_id = 4",
            "UPDATE documents SET id = id + 1000000 WHERE chatbot_id = 2",
            "CALL chatbot_process_queue()",
            "SELECT * FROM chatbot_estimate()",
            "SELECT count(*) FROM chatbot_verify()",
            "SELECT chatbot_repair()",
            "SET session_replication_role = replica; UPDATE documents SET title = 'Hidden' WHERE chatbot_id = 2;
                RESET session_replication_role; SELECT chatbot_repair()",
            "CALL chatbot_sync_all()",
            "DELETE FROM documents WHERE chatbot_id = 2",
        ] {
            // A new session that has already loaded and planned what every session needs once.
            let mut session = db.other();
            session
                .batch_execute("UPDATE documents SET title = title || '.', active = NOT active WHERE chatbot_id = 1")
                .unwrap();
            let before = megabytes(&mut session, "VmSize");
            // This statement's own memory is part of the peak, but small.
            if statement.contains("UPDATE chatbots") {
                db.admin.batch_execute("DELETE FROM chatbots WHERE id = 2").unwrap();
            }
            session.batch_execute(statement).unwrap();
            let grown = megabytes(&mut session, "VmPeak") - before;
            assert!(grown <= LIMIT, "{statement}: {grown} MB for {ROWS} rows");
        }
    }
}
