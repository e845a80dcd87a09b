//! Invalid arguments are refused with a clear error, and change nothing.

use super::harness::{Db, expect_error, snapshot_of_all_tables};

#[test]
fn bad_input_is_refused_and_changes_nothing() {
    let db = Db::new();
    let mut app = db.session("app");
    app.batch_execute("SELECT chatbot_embed_source(1, 'document', 1, 'A text.')").unwrap();
    let before = snapshot_of_all_tables(&mut app);
    let session = "chatbot_session_add_message(gen_random_uuid()";
    for (call, code, message) in [
        ("chatbot_embed_source(NULL, 'document', 1, 'x')", "22004", "chatbot_id is NULL"),
        ("chatbot_embed_source(1, NULL, 1, 'x')", "22004", "source_type is NULL"),
        ("chatbot_embed_source(1, 'document', NULL, 'x')", "22004", "source_id is NULL"),
        ("chatbot_embed_source(1, 'document', 1, NULL)", "22004", "content is NULL"),
        ("chatbot_embed_source(1, 'document', 1, 'x', NULL)", "22004", "metadata is NULL"),
        ("chatbot_embed_source(0, 'document', 1, 'x')", "22023", "chatbot_id is 0, expected 1 or more"),
        ("chatbot_embed_source(1, 'document', -5, 'x')", "22023", "source_id is -5, expected 1 or more"),
        ("chatbot_embed_source(1, 'page', 1, 'x')", "22023", "source_type is \"page\", expected one of document, link"),
        ("chatbot_embed_source(1, 'link', 1, 'x', '[1]')", "22023", "metadata is an array, expected an object"),
        ("chatbot_embed_source(1, 'link', 1, 'x', 'null')", "22023", "metadata is null, expected an object"),
        (
            "chatbot_embed_source(1, 'link', 1, 'x', jsonb_build_object('a', repeat('x', 70000)))",
            "54000",
            "metadata has 70009 bytes, the limit is 65536",
        ),
        (
            "chatbot_delete_source(1, 'Document', 1)",
            "22023",
            "source_type is \"Document\", expected one of document, link",
        ),
        ("chatbot_delete_source(1, 'document', NULL)", "22004", "source_id is NULL"),
        ("chatbot_cleanup(NULL)", "22004", "chatbot_id is NULL"),
        ("chatbot_cleanup(-1)", "22023", "chatbot_id is -1, expected 1 or more"),
        ("chatbot_embed(NULL)", "22004", "content is NULL"),
        ("chatbot_embed('x', 'passage')", "22023", "input_type is \"passage\", expected one of document, query"),
        ("chatbot_chunk(NULL)", "22004", "content is NULL"),
        ("chatbot_chunk('x', 0)", "22023", "chunk_size is 0, expected 1 to 100000"),
        ("chatbot_chunk('x', 100, 100)", "22023", "chunk_overlap is 100, expected 0 to 99"),
        ("chatbot_chunk('x', 100, -1)", "22023", "chunk_overlap is -1, expected 0 to 99"),
        ("chatbot_chunk('x', 100, 10, 0)", "22023", "max_chunks is 0, expected 1 to 100000"),
        ("chatbot_search(NULL, 'x')", "22004", "chatbot_id is NULL"),
        ("chatbot_search(1, NULL)", "22004", "query is NULL"),
        ("chatbot_search(1, 'x', 0)", "22023", "max_results is 0, expected 1 to 1000"),
        ("chatbot_search(1, 'x', 1001)", "22023", "max_results is 1001, expected 1 to 1000"),
        ("chatbot_search(1, 'x', 5, '{page}')", "22023", "source_types is \"page\", expected one of document, link"),
        ("chatbot_search(1, 'x', 5, '{NULL}')", "22004", "source_types is NULL"),
        ("chatbot_search(1, 'x', metadata_filter => '3')", "22023", "metadata_filter is a number, expected an object"),
        ("chatbot_search(1, 'x', min_similarity => 'NaN')", "22023", "min_similarity is NaN, expected -1 to 1"),
        ("chatbot_search(1, 'x', min_similarity => 2)", "22023", "min_similarity is 2, expected -1 to 1"),
        ("chatbot_search(1, 'x', mode => 'fast')", "22023", "mode is \"fast\", expected one of hybrid, vector, text"),
        ("chatbot_session_open(NULL)", "22004", "chatbot_id is NULL"),
        ("chatbot_session_open(1, '\"x\"')", "22023", "metadata is a string, expected an object"),
        ("chatbot_session_messages(NULL)", "22004", "session_id is NULL"),
        ("chatbot_session_close(NULL)", "22004", "session_id is NULL"),
        ("chatbot_session_add_message(NULL, 'user', 'x')", "22004", "session_id is NULL"),
    ] {
        let failure = expect_error(&mut app, &format!("SELECT * FROM {call}"));
        assert_eq!((failure.code.as_str(), failure.message.as_str()), (code, message), "{call}");
        assert!(!failure.hint.is_empty(), "{call}");
    }
    for (rest, code) in [(", 'robot', 'x')", "22023"), (", 'user', NULL)", "22004"), (", 'user', 'x')", "P0002")] {
        assert_eq!(expect_error(&mut app, &format!("SELECT {session}{rest}")).code, code);
    }
    assert_eq!(snapshot_of_all_tables(&mut app), before);
}

#[test]
fn settings_with_an_overlap_as_large_as_a_chunk_are_refused() {
    let db = Db::new();
    let mut app = db.session("app");
    app.batch_execute("SET chatbot_sync.chunk_size = 100").unwrap();
    let failure = expect_error(&mut app, "SELECT chatbot_embed_source(1, 'document', 1, 'x')");
    assert_eq!(failure.message, "chunk_overlap is 200, expected 0 to 99");
}
