//! What becomes of the files of models in folders: imported once, kept, changed, damaged, dropped, backed up; and moving
//! a database to such a model and back.

use postgres::Client;
use serde_json::json;

use super::doctor::{assert_finding, findings};
use super::harness::{
    Db, embed_statement, expect_error, prose, query_column, query_value, set_for_database, wait_until,
};
use super::local_models::{choose, with_models};
use super::server::Server;
use crate::embedding::transformer::tests::{Models, model};

/// Names of imported files.
fn imported(db: &mut Db) -> Vec<String> {
    let sql = "SELECT f FROM pg_ls_dir(current_setting('data_directory') || '/chatbot_sync') AS f WHERE f LIKE '%.v%' ORDER BY f";
    query_column(&mut db.admin, sql)
}

/// The imported file of the model that answers.
fn file_of_active(db: &mut Db) -> String {
    let sql = "SELECT current_setting('data_directory') || '/chatbot_sync/' || model || '.' || left(options ->> 'sha256', 16) || '.float.v1'
        FROM chatbot_sync.model WHERE active";
    query_value(&mut db.admin, sql)
}

/// A model under a name that no other test has, since imported files are the server's.
fn publish_as(models: &Models, name: &str, of: &str) {
    let mut model = model(of);
    model["name"] = json!(name);
    models.publish(&model);
}

const SAME: &str = "SELECT chatbot_embed('the newest')::text";

#[test]
fn a_folder_that_goes_or_changes_harms_no_session() {
    let (mut db, models) = with_models(&[]);
    publish_as(&models, "folder-goes", "bert-mean");
    let mut boss = db.session("boss");
    choose(&mut boss, "folder-goes");
    let mut app = db.session("app");
    let before: String = query_value(&mut app, SAME);
    // As an administrator may do it: in place.
    models.write("folder-goes", "model.safetensors", b"");
    assert_eq!(query_value::<String>(&mut app, SAME), before);
    assert_eq!(query_value::<String>(&mut db.session("app"), SAME), before);
    std::fs::remove_dir_all(models.0.join("folder-goes")).unwrap();
    assert_eq!(query_value::<String>(&mut app, SAME), before);
    assert_eq!(query_value::<String>(&mut db.session("app"), SAME), before);
    assert_finding(&mut db.admin, "local model", &["warning: ", "does not exist", "cannot be imported again"]);
}

#[test]
fn a_changed_folder_is_another_model_once_it_is_chosen() {
    let (mut db, models) = with_models(&[]);
    publish_as(&models, "folder-changes", "bert-mean");
    let (mut boss, mut app) = (db.session("boss"), db.session("app"));
    let first = choose(&mut boss, "folder-changes");
    app.batch_execute(&embed_statement(1, "the newest")).unwrap();
    let before: String = query_value(&mut app, SAME);
    assert_eq!(findings(&mut db.admin, "local model"), "");
    models.write("folder-changes", "1_Pooling/config.json", br#"{"pooling_mode_cls_token": true}"#);
    assert_eq!(query_value::<String>(&mut app, SAME), before);
    assert_finding(
        &mut db.admin,
        "local model",
        &["was changed since its vectors were made", "chatbot_set_model('local', 'folder-changes')"],
    );

    let second = choose(&mut boss, "folder-changes");

    assert_ne!(first, second);
    assert_eq!(query_value::<String>(&mut app, SAME), before, "until it has vectors of its own");
    boss.batch_execute("CALL chatbot_reembed()").unwrap();
    assert_ne!(query_value::<String>(&mut app, SAME), before);
    assert_eq!(imported(&mut db).iter().filter(|name| name.starts_with("folder-changes.")).count(), 2);
}

#[test]
fn a_damaged_file_is_an_error_until_the_model_is_chosen_again() {
    let (mut db, models) = with_models(&[]);
    publish_as(&models, "damaged", "bert-mean");
    let mut boss = db.session("boss");
    let id = choose(&mut boss, "damaged");
    let before: String = query_value(&mut boss, SAME);
    let path = file_of_active(&mut db);
    let whole = std::fs::read(&path).unwrap();
    for content in [&whole[..100], &whole[..whole.len() - 1], b"something else altogether"] {
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, content).unwrap();
        let failure = expect_error(&mut db.session("app"), SAME);
        assert_eq!(failure.code, "XX001");
        assert!(failure.hint.contains("chatbot_set_model()"), "{}", failure.hint);
        // A session that has the file before it was replaced goes on.
        assert_eq!(query_value::<String>(&mut boss, SAME), before);
    }
    assert_finding(&mut db.other(), "local model", &["error: ", "imports it anew"]);

    assert_eq!(choose(&mut boss, "damaged"), id);

    assert_eq!(query_value::<String>(&mut db.session("app"), SAME), before);
}

#[test]
fn dropping_a_model_removes_its_file() {
    let (mut db, models) = with_models(&[]);
    publish_as(&models, "dropped", "bert-mean");
    let mut boss = db.session("boss");
    let id = choose(&mut boss, "dropped");
    let mut app = db.session("app");
    query_value::<String>(&mut app, SAME);
    boss.batch_execute("SELECT chatbot_set_model('local', 'minilm-static-256')").unwrap();
    let has_file = |db: &mut Db| imported(db).iter().any(|name| name.starts_with("dropped."));
    assert!(has_file(&mut db));
    boss.batch_execute(&format!("CALL chatbot_drop_model({id})")).unwrap();
    assert!(!has_file(&mut db));
    query_value::<String>(&mut app, SAME);
}

#[test]
fn a_file_that_is_gone_is_imported_again_if_the_folder_is_the_same() {
    let (mut db, models) = with_models(&[]);
    publish_as(&models, "restored", "bert-mean");
    choose(&mut db.session("boss"), "restored");
    let before: String = query_value(&mut db.session("app"), SAME);
    let path = file_of_active(&mut db);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(query_value::<String>(&mut db.session("app"), SAME), before);
    assert!(std::fs::exists(&path).unwrap());
    // Another one than the vectors were made with is not taken.
    std::fs::remove_file(&path).unwrap();
    models.write("restored", "1_Pooling/config.json", br#"{"pooling_mode_cls_token": true}"#);
    let failure = expect_error(&mut db.session("app"), SAME);
    assert_eq!(failure.code, "XX001");
    assert!(failure.message.contains("vectors were made with"), "{}", failure.message);
}

#[test]
fn sessions_that_need_the_same_import_at_once_all_get_it() {
    let (mut db, models) = with_models(&[]);
    publish_as(&models, "at-once", "bert-mean");
    choose(&mut db.session("boss"), "at-once");
    std::fs::remove_file(file_of_active(&mut db)).unwrap();
    let sessions: Vec<Client> = (0..8).map(|_| db.session("app")).collect();
    let calls: Vec<_> =
        sessions.into_iter().map(|mut app| std::thread::spawn(move || query_value::<String>(&mut app, SAME))).collect();
    let vectors: Vec<String> = calls.into_iter().map(|call| call.join().unwrap()).collect();
    assert!(vectors.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_standby_has_the_model_without_its_folder() {
    let (mut server, models) = (Server::start(&[]), Models::new());
    publish_as(&models, "on-standby", "bert-mean");
    set_for_database(&mut server.db, "local_models", models.0.to_str().unwrap());
    choose(&mut server.db.session("boss"), "on-standby");
    server.db.session("app").batch_execute(&embed_statement(1, "running low")).unwrap();
    std::fs::remove_dir_all(models.0.join("on-standby")).unwrap();
    let standby = server.standby();
    let mut reader = standby.db.session("reader");
    wait_until(&mut reader, "SELECT count(*) = 1 FROM chatbot_sync.source");
    let found: i64 = query_value(&mut reader, "SELECT source_id FROM chatbot_search(1, 'running low')");
    assert_eq!(found, 1);
}

#[test]
fn a_database_moves_to_a_model_from_a_folder_and_back_while_workers_are_killed() {
    let mut server = Server::start_preloaded(&["chatbot_sync.naptime=1", "max_worker_processes=16"]);
    let models = Models::new();
    publish_as(&models, "moved-to", "bert-mean");
    set_for_database(&mut server.db, "local_models", models.0.to_str().unwrap());
    let (mut boss, mut app) = (server.db.session("boss"), server.db.session("app"));
    for id in 1..=40 {
        app.batch_execute(&format!("SELECT chatbot_enqueue_source(1, 'document', {id}, $t${id}. {}$t$)", prose(12)))
            .unwrap();
    }
    let all_synced = "SELECT count(*) = 40 AND bool_and(status = 'synced') FROM chatbot_sync.source";
    wait_until(&mut app, all_synced);
    for (name, dimensions) in [("moved-to", 32), ("minilm-static-256", 256)] {
        choose(&mut boss, name);
        let mut mover = server.db.session("boss");
        let moved = std::thread::spawn(move || mover.batch_execute("CALL chatbot_reembed(5)").unwrap());
        for id in 1..=40 {
            app.batch_execute(&format!(
                "SELECT chatbot_enqueue_source(1, 'document', {id}, $t${id} {name}. {}$t$)",
                prose(12)
            ))
            .unwrap();
            let found: i64 = query_value(&mut app, "SELECT count(*) FROM chatbot_search(1, 'number', 10)");
            assert_eq!(found, 10);
            if id % 10 == 5 {
                let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'chatbot_sync worker'";
                query_value::<i64>(&mut server.db.admin, kill);
            }
        }
        moved.join().unwrap();
        wait_until(&mut app, all_synced);
        wait_until(&mut app, "SELECT count(*) = 0 FROM chatbot_sync.job");
        let whole = format!(
            "SELECT bool_and(x.n = s.chunk_count) FROM chatbot_sync.source s, LATERAL (SELECT count(*) AS n FROM chatbot_sync.embedding e
                JOIN chatbot_sync.model m ON m.id = e.model_id AND m.active
                WHERE (e.source_type, e.source_id) = (s.source_type, s.source_id) AND vector_dims(e.embedding) = {dimensions}) x"
        );
        assert!(query_value::<bool>(&mut app, &whole));
    }
}
