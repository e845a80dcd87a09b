//! Triggers of the user that change rows which the same statement has just written: the final state is embedded.

use super::harness::{attached_documents, find_differences, query_column};

#[test]
fn a_row_changed_by_a_nested_trigger_is_embedded_as_it_ends() {
    let (_db, _mock, mut app) = attached_documents();
    app.batch_execute(
        "CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             UPDATE public.documents SET content = content || ' And more.' WHERE id = NEW.id AND content NOT LIKE '%more.'; RETURN NULL;
         END $$;
         CREATE TRIGGER more AFTER INSERT OR UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION more();",
    )
    .unwrap();
    for change in [
        "INSERT INTO documents (chatbot_id, content) VALUES (1, 'One.'), (1, 'Two.'), (2, 'Three.')",
        "UPDATE documents SET content = 'Edited ' || id",
        "UPDATE documents SET chatbot_id = 3, content = 'Moved.' WHERE chatbot_id = 2",
        "INSERT INTO documents (chatbot_id, content) SELECT 1, 'Other ' || i FROM generate_series(1, 30) AS i",
    ] {
        app.batch_execute(change).unwrap();
        assert_eq!(find_differences(&mut app), [""; 0], "{change}");
    }
    assert_eq!(
        query_column::<bool>(&mut app, "SELECT bool_and(content LIKE '%more.') FROM chatbot_sync.embedding"),
        [true]
    );
}

#[test]
fn a_row_deleted_or_moved_by_a_nested_trigger_stays_so() {
    let (_db, _mock, mut app) = attached_documents();
    app.batch_execute(
        "CREATE FUNCTION tidy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             DELETE FROM public.documents WHERE id = NEW.id AND content = 'delete me';
             UPDATE public.documents SET chatbot_id = 3 WHERE id = NEW.id AND content = 'move me' AND chatbot_id <> 3;
             RETURN NULL;
         END $$;
         CREATE TRIGGER tidy AFTER INSERT OR UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION tidy();",
    )
    .unwrap();
    for change in [
        "INSERT INTO documents (chatbot_id, content) VALUES (1, 'delete me'), (1, 'move me'), (1, 'stay'), (1, 'stay too')",
        "UPDATE documents SET content = 'delete me' WHERE content = 'stay'",
        "UPDATE documents SET content = 'move me' WHERE content = 'stay too'",
        "UPDATE documents SET chatbot_id = 2, content = 'delete me' WHERE chatbot_id = 3",
    ] {
        app.batch_execute(change).unwrap();
        assert_eq!(find_differences(&mut app), [""; 0], "{change}");
    }
}
