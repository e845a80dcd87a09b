//! chatbot_doctor() reports each problem with providers, sources, deletions, restores, backups and workers, with a
//! statement that helps.

use postgres::Client;

use super::harness::{
    application_with_mock, attached_documents, database_with_mock, embed_statement, query_value, set_for_database,
    use_mock, wait_until,
};
use super::mock::{Fault, Mock};
use super::server::Server;

/// Returns the rows of a check that are not ok, as "status: detail: hint"; empty where there are none.
pub(crate) fn findings(client: &mut Client, check: &str) -> String {
    let sql = format!(
        "SELECT coalesce(string_agg(concat_ws(': ', status, detail, hint), '; '), '') FROM chatbot_doctor()
        WHERE check_name = '{check}' AND status <> 'ok'"
    );
    query_value(client, &sql)
}

pub(crate) fn assert_finding(client: &mut Client, check: &str, words: &[&str]) {
    let said = findings(client, check);
    assert!(!words.is_empty() && words.iter().all(|word| said.contains(word)), "{check}: {said}");
}

pub(crate) fn assert_healthy(client: &mut Client) {
    let ill = "SELECT coalesce(string_agg(check_name || ': ' || detail, '; '), '') FROM chatbot_doctor() WHERE status <> 'ok'";
    assert_eq!(query_value::<String>(client, ill), "");
}

#[test]
fn the_doctor_reports_a_failing_provider() {
    let (mut db, mock) = database_with_mock();
    let mut app = db.session("app");
    assert_healthy(&mut app);
    let ok: String = query_value(&mut app, "SELECT detail FROM chatbot_doctor() WHERE check_name = 'provider'");
    assert!(ok.starts_with("openai_compatible (mock) answered in ") && ok.ends_with(" ms"), "{ok}");
    mock.state().always = Some(Fault::Dimensions);
    assert_finding(&mut app, "provider", &["error: ", "HV00M", "vectors of this length"]);
    mock.state().always = Some(Fault::Status(404, "", "{}"));
    assert_finding(&mut app, "provider", &["error: ", "HV00J"]);
    // No server listens at this address.
    set_for_database(&mut db, "openai_compatible_url", "http://127.0.0.1:9/v1");
    assert_finding(&mut db.session("app"), "provider", &["error: ", "cannot be reached", "HV00N"]);
    // The provider needs a key, and none is configured.
    db.admin.batch_execute("INSERT INTO chatbot_sync.model (provider, model, dimensions, active) VALUES ('cohere', 'embed-v4.0', 512, false)").unwrap();
    db.admin.batch_execute("UPDATE chatbot_sync.model SET active = false; UPDATE chatbot_sync.model SET active = true WHERE provider = 'cohere'").unwrap();
    assert_finding(
        &mut db.session("app"),
        "provider",
        &["error: ", "has no key", "F0000", "ALTER SYSTEM SET chatbot_sync.cohere_api_key_file"],
    );
}

#[test]
fn the_doctor_reports_stuck_and_slow_syncs() {
    let (mut db, _mock, mut app) = attached_documents();
    app.batch_execute("INSERT INTO documents (chatbot_id, content) VALUES (1, 'A text.')").unwrap();
    assert_healthy(&mut app);
    app.batch_execute("UPDATE chatbot_sync.source SET status = 'pending'").unwrap();
    assert_finding(&mut app, "sources that wait", &["warning: 1 without a job: CALL chatbot_sync_all();"]);
    app.batch_execute("CALL chatbot_sync_all()").unwrap();
    assert_healthy(&mut app);
    app.batch_execute("UPDATE chatbot_sync.sync_log SET total_ms = 20000, embedding_ms = 19000").unwrap();
    assert_finding(&mut app, "speed", &["warning: ", "embedding 19000", "The provider is slow"]);
    app.batch_execute("UPDATE chatbot_sync.sync_log SET storing_ms = 19000, embedding_ms = 0").unwrap();
    assert_finding(&mut app, "speed", &["warning: ", "VACUUM ANALYZE chatbot_sync.embedding;"]);
    app.batch_execute("UPDATE chatbot_sync.sync_log SET total_ms = 20, error_code = '58030'").unwrap();
    assert_finding(&mut app, "speed", &["warning: ", "1 of 1 did not end within chatbot_sync.sync_timeout"]);
    app.batch_execute("UPDATE chatbot_sync.sync_log SET logged_at = now() - interval '32 days'").unwrap();
    assert_finding(&mut app, "log", &["warning: ", "CALL chatbot_process_queue();"]);
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    assert_healthy(&mut app);
    app.batch_execute("SELECT chatbot_enqueue_source(1, 'link', 1, 'x'); UPDATE chatbot_sync.job SET due_at = now() - interval '1 hour'").unwrap();
    assert_finding(
        &mut app,
        "queue",
        &["warning: 1 jobs, 1 wait for more than ", "link 1 of chatbot 1", "CALL chatbot_process_queue();"],
    );
    assert_finding(
        &mut app,
        "workers",
        &["warning: the library is not preloaded", "ALTER SYSTEM SET shared_preload_libraries"],
    );
    app.batch_execute("UPDATE chatbot_sync.job SET leased_by = 1, due_at = now() + interval '1 minute'").unwrap();
    assert_finding(
        &mut app,
        "leases",
        &["warning: 1 jobs are leased by processes that are gone", "CALL chatbot_process_queue();"],
    );
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    assert_healthy(&mut app);
    db.admin.batch_execute("UPDATE pg_extension SET extversion = '0.4.4' WHERE extname = 'vector'").unwrap();
    assert_finding(&mut app, "pgvector", &["error: version 0.4.4: ALTER EXTENSION vector UPDATE;"]);
}

#[test]
fn the_doctor_reports_sources_that_no_search_finds() {
    let (mut db, _mock, mut app) = attached_documents();
    app.batch_execute("INSERT INTO documents (chatbot_id, content) VALUES (1, 'A text.'), (1, ' ')").unwrap();
    app.batch_execute("INSERT INTO documents (chatbot_id, content, active) VALUES (2, 'Archived.', false)").unwrap();
    assert_healthy(&mut app);
    let blank = "SELECT detail FROM chatbot_doctor() WHERE check_name = 'sources not found'";
    assert_eq!(query_value::<String>(&mut app, blank), "1 have no text, 1 are not enabled: no search finds them");
    // As after a restore of rows from a database with other model ids.
    db.admin
        .batch_execute("UPDATE chatbot_sync.source SET model_id = 99; UPDATE chatbot_sync.embedding SET model_id = 99")
        .unwrap();
    assert_finding(
        &mut app,
        "other models",
        &["error: 1 sources have vectors of a model that does not answer, as document 1 of chatbot 1"],
    );
    db.admin.batch_execute("SELECT chatbot_repair()").unwrap();
    app.batch_execute("CALL chatbot_sync_all()").unwrap();
    assert_healthy(&mut app);
    // A model that took over properly, and whose predecessor was dropped.
    db.admin.batch_execute("SELECT chatbot_set_model('local', 'minilm-static-256'); CALL chatbot_reembed(); CALL chatbot_drop_model(1)").unwrap();
    assert_healthy(&mut app);
}

#[test]
fn the_doctor_reports_unnoticed_deletions() {
    let (_db, _mock, mut app) = attached_documents();
    app.batch_execute("INSERT INTO documents (chatbot_id, content) VALUES (1, 'A text.')").unwrap();
    assert_healthy(&mut app);
    app.batch_execute("ALTER TABLE documents DISABLE TRIGGER chatbot_sync_1_delete").unwrap();
    assert_finding(
        &mut app,
        "triggers",
        &[
            "error: trigger chatbot_sync_1_delete of public.documents is disabled",
            "ALTER TABLE public.documents ENABLE TRIGGER",
        ],
    );
    app.batch_execute("ALTER TABLE documents ENABLE TRIGGER chatbot_sync_1_delete").unwrap();
    app.batch_execute("SELECT chatbot_session_open(2)").unwrap();
    app.batch_execute(
        "ALTER TABLE chatbots DISABLE TRIGGER chatbot_sync_chatbots_delete; DELETE FROM chatbots WHERE id = 2",
    )
    .unwrap();
    assert_finding(
        &mut app,
        "deleted chatbots",
        &["warning: 1 chatbots that public.chatbots does not have", "SELECT chatbot_cleanup(2);"],
    );
    assert_finding(
        &mut app,
        "triggers",
        &["error: trigger chatbot_sync_chatbots_delete of public.chatbots is disabled"],
    );
    app.batch_execute("SELECT chatbot_cleanup(2); DROP TRIGGER chatbot_sync_chatbots_delete ON chatbots").unwrap();
    assert_finding(
        &mut app,
        "triggers",
        &[
            "error: public.chatbots, a table of chatbots, has 1 of its 2 triggers",
            "SELECT chatbot_detach('public.chatbots');",
        ],
    );
    app.batch_execute("SELECT chatbot_detach('chatbots'); SELECT chatbot_attach_chatbots('chatbots', 'id')").unwrap();
    assert_healthy(&mut app);
    app.batch_execute("DROP TRIGGER chatbot_sync_1_delete ON documents").unwrap();
    assert_finding(
        &mut app,
        "triggers",
        &["error: public.documents has 4 of its 5 triggers", "SELECT chatbot_detach('public.documents');"],
    );
}

#[test]
fn the_doctor_reports_what_a_restore_lost() {
    let (mut db, _mock, mut app) = attached_documents();
    app.batch_execute("INSERT INTO documents (chatbot_id, content) VALUES (1, 'A text.')").unwrap();
    // Our tables were restored, the triggers of the host table were not.
    app.batch_execute("DO $$ DECLARE t name; BEGIN FOR t IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'documents'::regclass AND tgname LIKE '%chatbot\\_sync%' LOOP EXECUTE format('DROP TRIGGER %I ON documents', t); END LOOP; END $$").unwrap();
    assert_finding(
        &mut app,
        "detached sources",
        &["error: the table of 1 sources (document, host 1)", "SELECT chatbot_attach('the table', 'document');"],
    );
    app.batch_execute("SELECT chatbot_attach('documents', 'document'); CALL chatbot_sync_all()").unwrap();
    assert_healthy(&mut app);
    // The triggers were restored, our rows were not.
    db.admin.batch_execute("DELETE FROM chatbot_sync.embedding; DELETE FROM chatbot_sync.source").unwrap();
    assert_finding(
        &mut app,
        "lost sources",
        &["error: public.documents has rows, and none of them is a source", "CALL chatbot_sync_all();"],
    );
    app.batch_execute("CALL chatbot_sync_all()").unwrap();
    assert_healthy(&mut app);
    db.admin.batch_execute("ALTER EVENT TRIGGER chatbot_sync_drop DISABLE").unwrap();
    assert_finding(&mut app, "event triggers", &["error: ", "ALTER EVENT TRIGGER chatbot_sync_drop ENABLE;"]);
}

#[test]
fn the_doctor_reports_that_a_backup_would_fail() {
    let (mut db, _mock, mut app) = application_with_mock();
    app.batch_execute(
        "CREATE TABLE docs (id int PRIMARY KEY, chatbot_id int, content text); SELECT chatbot_attach('docs', 'document')",
    )
    .unwrap();
    assert_healthy(&mut app);
    db.admin.batch_execute("REVOKE SELECT ON chatbot_sync.message FROM app").unwrap();
    assert_finding(
        &mut app,
        "backup",
        &[
            "warning: a pg_dump that app makes fails: it may not read chatbot_sync.message: SELECT chatbot_grant('app');",
        ],
    );
    db.admin.batch_execute("SELECT chatbot_grant('app')").unwrap();
    assert_healthy(&mut app);
    let database: String = query_value(&mut db.admin, "SELECT current_database()::text");
    db.admin.batch_execute(&format!("ALTER DATABASE {database} OWNER TO reader")).unwrap();
    assert_finding(&mut app, "backup", &["a pg_dump that reader makes fails"]);
}

#[test]
fn the_doctor_reports_why_workers_cannot_run() {
    let mut server = Server::start_preloaded(&["max_worker_processes=2", "chatbot_sync.databases=elsewhere, postgres"]);
    let mock = Mock::new();
    use_mock(&mut server.db, &mock);
    let mut app = server.db.session("app");
    // The launcher looks at every database when it starts, and found no free worker process.
    wait_until(&mut server.db.admin, "SELECT chatbot_sync.lacks_worker_process()");
    assert_finding(
        &mut app,
        "workers",
        &[
            "error: no worker can be started: all of max_worker_processes (2) are in use: ALTER SYSTEM SET max_worker_processes = 10;",
        ],
    );

    let server = Server::start_preloaded(&["chatbot_sync.databases=elsewhere"]);
    let mut app = server.db.session("app");
    assert_healthy(&mut app);
    app.batch_execute("SELECT chatbot_enqueue_source(1, 'link', 1, 'x')").unwrap();
    assert_finding(
        &mut app,
        "workers",
        &["error: this database has no workers", "ALTER SYSTEM SET chatbot_sync.databases = 'elsewhere, postgres';"],
    );

    let server = Server::start_preloaded(&["max_worker_processes=1"]);
    let mut app = server.db.session("app");
    assert_finding(
        &mut app,
        "workers",
        &["error: the launcher does not run", "ALTER SYSTEM SET max_worker_processes = 9;"],
    );
    app.batch_execute(&embed_statement(1, "A text.")).unwrap();
}
