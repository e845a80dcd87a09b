//! Models in folders: choosing one, embedding, searching, and leaving a statement that computes.

use postgres::Client;
use serde_json::{Value, json};

use super::harness::{Db, embed_statement, expect_error, pause, prose, query_value, set_for_database, wait_until};
use super::server::Server;
use crate::embedding::transformer::tests::{Models, cosine_distance, known, model};

/// A database whose folder of models has these, and the folder.
pub(crate) fn with_models(names: &[&str]) -> (Db, Models) {
    let (mut db, models) = (Db::new(), Models::new());
    for name in names {
        models.publish(&model(name));
    }
    set_for_database(&mut db, "local_models", models.0.to_str().unwrap());
    (db, models)
}

pub(crate) fn choose(client: &mut Client, name: &str) -> i32 {
    query_value(client, &format!("SELECT chatbot_set_model('local', '{name}')"))
}

/// A transformer that takes long for a chunk, as it has many layers.
pub(crate) fn slow_model() -> Value {
    let (mut slow, width, layers) = (model("bert-mean"), 64, 40);
    slow["name"] = json!("slow");
    let config = &mut slow["files"]["config.json"];
    config["num_hidden_layers"] = json!(layers);
    config["hidden_size"] = json!(width);
    config["intermediate_size"] = json!(256);
    config["max_position_embeddings"] = json!(512);
    slow["files"]["sentence_bert_config.json"] = json!({"max_seq_length": 512});
    slow["files"]["1_Pooling/config.json"] = json!({"pooling_mode_mean_tokens": true});
    let mut tensors = serde_json::Map::new();
    let mut add = |name: String, shape: &[usize]| drop(tensors.insert(name, json!({"dtype": "F32", "shape": shape})));
    let mut pair = |name: String, shape: &[usize]| {
        add(format!("{name}.weight"), shape);
        add(format!("{name}.bias"), &shape[..1]);
    };
    pair("embeddings.LayerNorm".to_owned(), &[width]);
    for layer in 0..layers {
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        for part in ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"] {
            pair(name(part), &[width, width]);
        }
        pair(name("attention.output.LayerNorm"), &[width]);
        pair(name("intermediate.dense"), &[256, width]);
        pair(name("output.dense"), &[width, 256]);
        pair(name("output.LayerNorm"), &[width]);
    }
    for (name, rows) in [("word", 24), ("position", 512), ("token_type", 2)] {
        add(format!("embeddings.{name}_embeddings.weight"), &[rows, width]);
    }
    slow["tensors"] = Value::Object(tensors);
    slow
}

#[test]
fn a_model_from_a_folder_gives_the_vectors_of_the_reference() {
    let (db, _models) = with_models(&["bert-mean", "xlm-roberta-cls", "static-weighted"]);
    let (mut boss, mut app) = (db.session("boss"), db.session("app"));
    let (texts, _) = known();
    for name in ["bert-mean", "xlm-roberta-cls", "static-weighted"] {
        choose(&mut boss, name);
        let expected: Vec<Vec<f32>> = serde_json::from_value(model(name)["vectors"].clone()).unwrap();
        for (text, expected) in texts.iter().zip(expected).filter(|(text, _)| !text.is_empty()) {
            let rows = app.query("SELECT chatbot_embed($1)::real[]", &[text]).unwrap();
            let distance = cosine_distance(&rows[0].get::<_, Vec<f32>>(0), &expected);
            assert!(distance < 1e-5, "{name} {text:?}: {distance}");
        }
    }
}

#[test]
fn sources_are_embedded_and_found_with_a_model_from_a_folder() {
    let (db, _models) = with_models(&["bert-mean"]);
    let (mut boss, mut app) = (db.session("boss"), db.session("app"));
    choose(&mut boss, "bert-mean");
    app.batch_execute(&embed_statement(1, "the newest, the widest")).unwrap();
    app.batch_execute(&embed_statement(2, "running low")).unwrap();
    app.batch_execute(&embed_statement(3, &prose(40))).unwrap();
    let found: i64 =
        query_value(&mut app, "SELECT source_id FROM chatbot_search(1, 'running low', 1, mode => 'vector')");
    assert_eq!(found, 2);
    let dimensions = "SELECT DISTINCT vector_dims(embedding) FROM chatbot_sync.embedding";
    assert_eq!(query_value::<i32>(&mut app, dimensions), 32);
}

#[test]
fn prefixes_of_the_folder_or_of_the_call_come_before_texts() {
    let (db, models) = with_models(&["bert-mean"]);
    models.write("bert-mean", "config_sentence_transformers.json", br#"{"prompts": {"query": "low "}}"#);
    let (mut boss, mut app) = (db.session("boss"), db.session("app"));
    choose(&mut boss, "bert-mean");
    let same = "SELECT chatbot_embed('the', 'query') = chatbot_embed('low the') AND chatbot_embed('the') <> chatbot_embed('low the')";
    assert!(query_value::<bool>(&mut app, same));
    boss.batch_execute("SELECT chatbot_set_model('local', 'bert-mean', document_prefix => 'new ', query_prefix => '')")
        .unwrap();
    let same = "SELECT chatbot_embed('new the', 'query') = chatbot_embed('the') AND chatbot_embed('new the', 'query') <> chatbot_embed('the', 'query')";
    assert!(query_value::<bool>(&mut app, same));
}

#[test]
fn int8_is_a_model_of_its_own() {
    let (db, _models) = with_models(&["bert-mean", "static-plain"]);
    let mut boss = db.session("boss");
    let float = choose(&mut boss, "bert-mean");
    let int8: i32 =
        query_value(&mut boss, r#"SELECT chatbot_set_model('local', 'bert-mean', options => '{"precision": "int8"}')"#);
    assert_ne!(float, int8);
    let again: i32 = query_value(
        &mut boss,
        r#"SELECT chatbot_set_model('local', 'bert-mean', options => '{"precision": "float"}')"#,
    );
    assert_eq!(again, float);
    let refused = |boss: &mut Client, model: &str, options: &str| {
        expect_error(boss, &format!("SELECT chatbot_set_model('local', '{model}', options => '{options}')")).code
    };
    assert_eq!(refused(&mut boss, "bert-mean", r#"{"precision": "int4"}"#), "22023");
    assert_eq!(refused(&mut boss, "bert-mean", r#"{"speed": 1}"#), "22023");
    assert_eq!(refused(&mut boss, "static-plain", r#"{"precision": "int8"}"#), "0A000");
}

#[test]
fn a_folder_that_cannot_be_used_is_an_error_of_its_own() {
    let (mut db, models) = with_models(&["bert-mean"]);
    let mut boss = db.session("boss");
    let refused = |boss: &mut Client, name: &str| {
        let failure = expect_error(boss, &format!("SELECT chatbot_set_model('local', $n${name}$n$)"));
        assert!(!failure.hint.is_empty());
        failure.code
    };
    for name in ["../bert-mean", "a/b", ".", "..", ".hidden", "a\\b", "a\nb", &"a".repeat(500)] {
        assert_eq!(refused(&mut boss, name), "22023", "{name:?}");
    }
    assert_eq!(refused(&mut boss, "no-such-model"), "58P01");
    models.write("a-file", "config.json", br#"{"model_type": "mpnet"}"#);
    assert_eq!(refused(&mut boss, "a-file"), "0A000");
    models.write("bert-mean", "model.safetensors", &(1u64 << 40).to_le_bytes());
    assert_eq!(refused(&mut boss, "bert-mean"), "XX001");
    let wrong = "SELECT chatbot_set_model('local', 'bert-mean', 7)";
    models.publish(&model("bert-mean"));
    assert_eq!(expect_error(&mut boss, wrong).code, "22023");
    assert_eq!(query_value::<i64>(&mut db.admin, "SELECT count(*) FROM chatbot_sync.model"), 0);
}

#[test]
fn only_a_superuser_says_where_models_are() {
    let (db, _models) = with_models(&[]);
    let mut boss = db.session("boss");
    boss.batch_execute("SELECT chatbot_embed('')").unwrap();
    assert_eq!(expect_error(&mut boss, "SET chatbot_sync.local_models = '/etc'").code, "42501");
}

/// Ends a statement that computes, with so many threads: its SQLSTATE, and whether the session works after it.
fn interrupt(threads: usize, how: &str) -> String {
    let (db, models) = with_models(&[]);
    models.publish(&slow_model());
    choose(&mut db.session("boss"), "slow");
    let (mut app, mut watcher) = (db.session("app"), db.other());
    let pid: i32 = query_value(&mut app, "SELECT pg_backend_pid()");
    app.batch_execute(&format!("SET chatbot_sync.local_threads = {threads}")).unwrap();
    let sql = embed_statement(1, &prose(900));
    let call = std::thread::spawn(move || {
        let error = app.batch_execute(&sql).unwrap_err();
        let code = error.code().map_or(if error.is_closed() { "57P01" } else { "" }, |code| code.code()).to_owned();
        let works = app.query_one("SELECT chatbot_embed('the')::text", &[]).is_ok();
        (code, works)
    });
    let tasks = || std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    if threads > 1 {
        while tasks() < threads + 1 {
            std::thread::yield_now();
        }
        assert_signals_are_blocked(pid);
    } else {
        wait_until(&mut watcher, &format!("SELECT state = 'active' FROM pg_stat_activity WHERE pid = {pid}"));
        // Pages of the model are read when it computes.
        let maps = || std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        while !maps().contains("/chatbot_sync/slow.") {
            pause();
        }
        assert_eq!(tasks(), 1);
    }
    watcher.batch_execute(&how.replace("PID", &pid.to_string())).unwrap();
    let (code, works) = call.join().unwrap();
    while works && tasks() > 1 {
        pause();
    }
    let stored: i64 = query_value(&mut watcher, "SELECT count(*) FROM chatbot_sync.embedding");
    format!("{code} {works} {stored}")
}

fn assert_signals_are_blocked(pid: i32) {
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t"));
        if task.file_name().to_str() != Some(&pid.to_string())
            && let Some(mask) = mask
        {
            // SIGKILL and SIGSTOP cannot be blocked, and two signals are the C library's own.
            let all = 0xffff_fffc_7ffb_feff;
            assert_eq!(u64::from_str_radix(mask.trim(), 16).unwrap() & all, all, "{mask}");
        }
    }
}

#[test]
fn cancel_ends_a_statement_that_computes() {
    for threads in [1, 3] {
        assert_eq!(interrupt(threads, "SELECT pg_cancel_backend(PID)"), "57014 true 0", "{threads} threads");
    }
}

#[test]
fn terminate_ends_a_statement_that_computes() {
    for threads in [1, 3] {
        assert_eq!(interrupt(threads, "SELECT pg_terminate_backend(PID)"), "57P01 false 0", "{threads} threads");
    }
}

#[test]
fn statement_timeout_ends_a_statement_that_computes() {
    let (db, models) = with_models(&[]);
    models.publish(&slow_model());
    choose(&mut db.session("boss"), "slow");
    let mut app = db.session("app");
    app.batch_execute("SET statement_timeout = '50ms'").unwrap();
    assert_eq!(expect_error(&mut app, &embed_statement(1, &prose(900))).code, "57014");
    app.batch_execute("SET statement_timeout = 0").unwrap();
    app.batch_execute(&embed_statement(2, "the newest")).unwrap();
}

#[test]
fn fast_shutdown_ends_a_statement_that_computes() {
    let (mut server, models) = (Server::start(&[]), Models::new());
    models.publish(&slow_model());
    set_for_database(&mut server.db, "local_models", models.0.to_str().unwrap());
    choose(&mut server.db.session("boss"), "slow");
    let mut app = server.db.session("app");
    app.batch_execute("SET chatbot_sync.local_threads = 2").unwrap();
    let pid: i32 = query_value(&mut app, "SELECT pg_backend_pid()");
    let call = std::thread::spawn(move || app.batch_execute(&embed_statement(1, &prose(900))).unwrap_err());
    while std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count() < 3 {
        std::thread::yield_now();
    }
    server.stop("fast");
    call.join().unwrap();
    assert!(server.log().contains(&format!("\n{pid} 57P01 FATAL:")), "{}", server.log());
}
