//! ALTER EXTENSION chatbot_sync UPDATE: every released version updates to exactly what a new installation has, and
//! versions that do not match are refused.

use std::fs;
use std::path::{Path, PathBuf};

use postgres::Client;

use super::harness::{ATTACH, DOCUMENTS, Db, expect_error, query_column, query_value, use_mock, wait_until};
use super::mock::Mock;
use super::server::Server;
use crate::version::OWN;

/// Every object of the extension with its properties, one on each line. Only sizes and oids are left out.
const OBJECTS: &str = "
    WITH member AS (SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
            AND d.refclassid = 'pg_extension'::regclass AND e.extname = 'chatbot_sync' WHERE d.deptype = 'e'),
        relation AS (SELECT c.* FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid)
    SELECT concat_ws(' ', 'member', pg_describe_object(classid, objid, 0), obj_description(objid, classid::regclass::name)) FROM member
    UNION ALL SELECT concat_ws(' ', 'function', pg_get_functiondef(p.oid), (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(proacl) AS a)) FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
    UNION ALL SELECT concat_ws(' ', 'relation', oid::regclass, relkind, relpersistence, (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(relacl) AS a), reloptions::text, relreplident) FROM relation
    UNION ALL SELECT concat_ws(' ', 'column', r.oid::regclass, rank() OVER (PARTITION BY r.oid ORDER BY attnum), attname, format_type(atttypid, atttypmod),
            attnotnull, attidentity, attgenerated, attstorage, attcompression, (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(attacl) AS a), pg_get_expr(d.adbin, d.adrelid), col_description(r.oid, attnum))
        FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND attnum > 0 AND NOT attisdropped
        LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum WHERE r.relkind IN ('r', 'v')
    UNION ALL SELECT concat_ws(' ', 'constraint', conname, conrelid::regclass, pg_get_constraintdef(c.oid), convalidated) FROM pg_constraint c JOIN relation r ON r.oid = c.conrelid
    UNION ALL SELECT concat_ws(' ', 'index', pg_get_indexdef(indexrelid), indisvalid) FROM pg_index i JOIN relation r ON r.oid = i.indrelid
    UNION ALL SELECT concat_ws(' ', 'view', oid::regclass, pg_get_viewdef(oid)) FROM relation WHERE relkind = 'v'
    UNION ALL SELECT concat_ws(' ', 'sequence', seqrelid::regclass, format_type(seqtypid, NULL), seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle)
        FROM pg_sequence JOIN relation r ON r.oid = seqrelid
    UNION ALL SELECT concat_ws(' ', 'trigger', pg_get_triggerdef(t.oid)) FROM pg_trigger t JOIN relation r ON r.oid = t.tgrelid WHERE NOT tgisinternal
    UNION ALL SELECT concat_ws(' ', 'event trigger', evtname, evtevent, evtfoid::regprocedure, evtenabled, evttags::text)
        FROM member m JOIN pg_event_trigger t ON m.classid = 'pg_event_trigger'::regclass AND t.oid = m.objid
    UNION ALL SELECT concat_ws(' ', 'schema', nspname, (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(nspacl) AS a)) FROM pg_namespace WHERE nspname = 'chatbot_sync'
    UNION ALL SELECT concat_ws(' ', 'dumped', c::regclass, condition) FROM pg_extension, unnest(extconfig, extcondition) AS u (c, condition) WHERE extname = 'chatbot_sync'
    UNION ALL SELECT concat_ws(' ', 'at first', pg_describe_object(i.classoid, i.objoid, i.objsubid), initprivs::text) FROM pg_init_privs i
        JOIN member m ON m.classid = i.classoid AND m.objid = i.objoid
    UNION ALL SELECT concat_ws(' ', 'extension', extversion, extrelocatable, extnamespace::regnamespace) FROM pg_extension WHERE extname = 'chatbot_sync'
    ORDER BY 1";

/// An update that changes a function, as every update does.
const CHANGED: &str = "CREATE OR REPLACE FUNCTION chatbot_sync.version_of_sql() RETURNS int LANGUAGE sql AS 'SELECT 1'";

/// A script in the server's folder of extensions, deleted when it is dropped.
pub(crate) struct TemporaryScript(PathBuf);

impl TemporaryScript {
    pub fn new(folder: &Path, versions: &str, sql: &str) -> Self {
        let path = folder.join(format!("chatbot_sync--{versions}.sql"));
        fs::write(&path, sql).unwrap();
        Self(path)
    }
}

impl Drop for TemporaryScript {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

pub(crate) fn extension_folder() -> PathBuf {
    let share: String =
        query_value(&mut Db::without_extension().admin, "SELECT setting FROM pg_config WHERE name = 'SHAREDIR'");
    Path::new(&share).join("extension")
}

/// Returns the statement of a script that begins with `start` and ends with `end`.
fn find_statement<'a>(script: &'a str, start: &str, end: &str) -> &'a str {
    let at = script.find(start).unwrap_or_else(|| panic!("no {start}"));
    let length = script[at..].find(end).unwrap() + end.len();
    &script[at..][..length]
}

fn create_database_with_version(version: &str) -> Db {
    let mut db = Db::without_extension();
    db.admin.batch_execute("CREATE EXTENSION vector").unwrap();
    db.admin.batch_execute(&format!("CREATE EXTENSION chatbot_sync VERSION '{version}'")).unwrap();
    db
}

fn grant_levels(admin: &mut Client) {
    let sql =
        "SELECT chatbot_grant('app'); SELECT chatbot_grant('reader', 'read'); SELECT chatbot_grant('boss', 'admin');
        GRANT CREATE ON SCHEMA public TO app";
    admin.batch_execute(sql).unwrap();
}

/// Returns the objects in which two databases differ.
fn object_differences(one: &mut Client, other: &mut Client) -> Vec<String> {
    let (one, other) = (query_column::<String>(one, OBJECTS), query_column::<String>(other, OBJECTS));
    assert!(one.len() > 200, "{}", one.len());
    // Builds with tests have a schema of their own, which no release has.
    let only = |a: &[String], b: &[String], sign| {
        a.iter()
            .filter(|line| !b.contains(line) && !line.contains("tests"))
            .map(|line| format!("{sign} {line}"))
            .collect::<Vec<_>>()
    };
    [only(&one, &other, '-'), only(&other, &one, '+')].concat()
}

/// Returns the rows of chatbot_doctor(), one on each line.
fn doctor_rows(client: &mut Client) -> Vec<String> {
    query_column(client, "SELECT check_name || ': ' || concat_ws(': ', status, detail, hint) FROM chatbot_doctor()")
}

#[test]
fn the_update_test_sees_every_kind_of_difference() {
    let folder = extension_folder();
    let now = fs::read_to_string(folder.join(format!("chatbot_sync--{OWN}.sql"))).unwrap();
    // An old version that lacks a function, an index and a comment, and has another function, table, body, column and
    // privilege.
    let index = find_statement(&now, "CREATE INDEX job_source", ";");
    let comment = find_statement(&now, "COMMENT ON VIEW chatbot_sync.progress", "';");
    let new = find_statement(&now, "CREATE FUNCTION chatbot_repair", "\n$$;");
    let new_comment = find_statement(&now, "COMMENT ON FUNCTION chatbot_repair", "';");
    let function = find_statement(&now, "CREATE FUNCTION chatbot_sync.schemas_of_functions", "\n$$;");
    let before = [index, comment, new, new_comment].iter().fold(now.clone(), |script, s| script.replace(s, ""));
    let before = before.replace(function, &function.replace("'vector'", "'vectors'"))
        + "CREATE FUNCTION chatbot_sync.gone() RETURNS int LANGUAGE sql AS 'SELECT 1';
           GRANT EXECUTE ON FUNCTION chatbot_sync.schemas_of_functions TO PUBLIC; CREATE TABLE chatbot_sync.gone (id int);
           ALTER TABLE chatbot_sync.job DROP COLUMN attempts, ADD attempts text;";
    let update = format!(
        "{index} {comment} {new} {new_comment} {} REVOKE ALL ON FUNCTION chatbot_repair FROM PUBLIC;
        DROP FUNCTION chatbot_sync.gone; DROP TABLE chatbot_sync.gone; REVOKE EXECUTE ON FUNCTION chatbot_sync.schemas_of_functions FROM PUBLIC;
        ALTER TABLE chatbot_sync.job ALTER attempts TYPE int USING attempts::int, ALTER attempts SET DEFAULT 0, ALTER attempts SET NOT NULL",
        function.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"),
    );
    let _scripts = [
        TemporaryScript::new(&folder, "0.0.1", &before),
        TemporaryScript::new(&folder, &format!("0.0.1--{OWN}"), &update),
    ];
    let (mut fresh, mut updated) = (create_database_with_version(OWN), create_database_with_version("0.0.1"));
    let found = object_differences(&mut fresh.admin, &mut updated.admin).join("\n");
    for name in [
        "- index CREATE INDEX job_source",
        "- member view chatbot_sync.progress",
        "- function CREATE OR REPLACE FUNCTION chatbot_sync.schemas_of",
        "+ member function chatbot_sync.gone",
        "+ relation chatbot_sync.gone",
        "- column chatbot_sync.job",
        "- at first",
        "- function CREATE OR REPLACE FUNCTION public.chatbot_repair",
    ] {
        assert!(found.contains(name), "{name} is not among\n{found}");
    }
    grant_levels(&mut updated.admin);
    grant_levels(&mut fresh.admin);
    let mut app = updated.session("app");
    app.batch_execute(DOCUMENTS).unwrap();
    // The SQL is older than the oldest version that this library serves.
    let refused = expect_error(&mut app, ATTACH);
    assert_eq!(
        (refused.code.as_str(), refused.hint.as_str()),
        ("55000", "A superuser runs: ALTER EXTENSION chatbot_sync UPDATE;")
    );
    assert!(refused.message.contains("0.0.1") && refused.message.contains(OWN), "{refused:?}");
    let said = doctor_rows(&mut app);
    assert_eq!(said, [format!("version: error: {}: {}", refused.message, refused.hint)]);
    updated.admin.batch_execute("ALTER EXTENSION chatbot_sync UPDATE").unwrap();
    let found = object_differences(&mut fresh.admin, &mut updated.admin);
    assert!(doctor_rows(&mut app).contains(&format!("version: ok: {OWN}, the library and the SQL of this database")));
    // The column was added last, so its number differs.
    let found: Vec<&String> = found.iter().filter(|line| !line[2..].starts_with("column chatbot_sync.job")).collect();
    assert_eq!(found, [""; 0]);
    // The session that was refused works now, and roles have the rights of their levels.
    app.batch_execute(ATTACH).unwrap();
    app.batch_execute("INSERT INTO documents (chatbot_id, content) VALUES (1, 'A text.')").unwrap();
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_search(1, 'text')"), 1);
    assert_eq!(query_value::<i64>(&mut updated.session("boss"), "SELECT chatbot_repair()"), 0);
    assert_eq!(expect_error(&mut app, "SELECT chatbot_repair()").code, "42501");
}

#[test]
fn an_older_library_refuses_newer_sql() {
    let folder = extension_folder();
    let _script = TemporaryScript::new(&folder, &format!("{OWN}--99.0.0"), CHANGED);
    let mut db = create_database_with_version(OWN);
    grant_levels(&mut db.admin);
    let mut app = db.session("app");
    let embed = "SELECT chatbot_embed_source(1, 'document', 1, 'A text.')";
    app.batch_execute(embed).unwrap();
    db.admin.batch_execute("ALTER EXTENSION chatbot_sync UPDATE TO '99.0.0'").unwrap();
    // A session that loaded the library before, and one that loads it now.
    for mut session in [app, db.session("app")] {
        for call in [embed, "SELECT chatbot_search(1, 'text')", "CALL chatbot_process_queue()"] {
            let refused = expect_error(&mut session, call);
            assert_eq!(refused.code, "55000", "{call}: {refused:?}");
            assert!(refused.message.contains("99.0.0") && refused.hint.contains("restart the server"), "{refused:?}");
            assert_eq!(doctor_rows(&mut session), [format!("version: error: {}: {}", refused.message, refused.hint)]);
        }
    }
    db.admin.batch_execute("DROP EXTENSION chatbot_sync; CREATE EXTENSION chatbot_sync").unwrap();
    db.admin.batch_execute(embed).unwrap();
}

#[test]
fn jobs_wait_while_workers_have_another_version() {
    let folder = extension_folder();
    let _scripts = [
        TemporaryScript::new(&folder, &format!("{OWN}--98.0.0"), &CHANGED.replace("1", "98")),
        TemporaryScript::new(&folder, &format!("98.0.0--{OWN}"), CHANGED),
    ];
    let (mut server, mock) = (Server::start_preloaded(&["chatbot_sync.naptime=1s"]), Mock::new());
    use_mock(&mut server.db, &mock);
    grant_levels(&mut server.db.admin);
    let mut app = server.db.session("app");
    app.batch_execute(
        "CREATE TABLE docs (id bigserial PRIMARY KEY, chatbot_id bigint, content text);
         SELECT chatbot_attach('docs', 'document', mode => 'async')",
    )
    .unwrap();
    mock.state().held = true;
    app.batch_execute("INSERT INTO docs (chatbot_id, content) SELECT 1, 'Text ' || i FROM generate_series(1, 5) AS i")
        .unwrap();
    mock.wait(|state| state.in_flight > 0);
    server.db.admin.batch_execute("ALTER EXTENSION chatbot_sync UPDATE TO '98.0.0'").unwrap();
    mock.release();
    let refused = "98.0.0";
    while !server.log().contains(refused) {}
    let jobs = "SELECT count(*) FROM chatbot_sync.job";
    assert_eq!(query_value::<i64>(&mut server.db.admin, jobs), 5);
    // New workers do not process them either, and the launcher keeps running.
    server.restart("fast");
    let times = server.log().matches(refused).count();
    while server.log().matches(refused).count() < times + 2 {}
    assert_eq!(query_value::<i64>(&mut server.db.admin, jobs), 5);
    assert_eq!(query_value::<i64>(&mut server.db.admin, "SELECT count(*) FROM chatbot_sync.embedding"), 0);
    server.db.admin.batch_execute(&format!("ALTER EXTENSION chatbot_sync UPDATE TO '{OWN}'")).unwrap();
    wait_until(&mut server.db.admin, &format!("SELECT ({jobs}) = 0"));
    assert_eq!(query_value::<i64>(&mut server.db.admin, "SELECT count(*) FROM chatbot_sync.embedding"), 5);
}

/// Before its update a database has the kinds that its SQL has, and after it takes others.
fn kinds_can_be_added_after_the_update(db: &mut Db, version: &str) {
    let mut app = db.session("app");
    app.batch_execute("SELECT chatbot_embed_source(1, 'link', 1, 'A text.')").unwrap();
    // What the SQL of that version attaches goes on, and can be attached otherwise.
    app.batch_execute(
        "CREATE TABLE rows (id int PRIMARY KEY, chatbot_id int, content text, title text);
         SELECT chatbot_attach('rows', 'document', metadata_columns => '{title}'); SELECT chatbot_detach('rows');
         SELECT chatbot_attach('rows', 'document', metadata_columns => '{title}'); INSERT INTO rows VALUES (1, 2, 'A row.', 'Rows')",
    )
    .unwrap();
    let refused = expect_error(&mut app, "SELECT chatbot_embed_source(1, 'product', 1, 'A text.')");
    assert_eq!(refused.message, "source_type is \"product\", expected one of document, link", "{version}");
    db.admin.batch_execute("ALTER EXTENSION chatbot_sync UPDATE").unwrap();
    db.session("boss").batch_execute("SELECT chatbot_add_source_type('product')").unwrap();
    app.batch_execute(
        "SELECT chatbot_embed_source(1, 'product', 1, 'A text.'), chatbot_enqueue_source(1, 'product', 2, 'A text.');
         CALL chatbot_process_queue()",
    )
    .unwrap();
    let rows =
        "SELECT string_agg(source_id || content, ' ' ORDER BY source_id) FROM chatbot_search(2, 'row', mode => 'text')";
    app.batch_execute(
        "UPDATE rows SET content = 'A row, edited.'; INSERT INTO rows VALUES (2, 2, 'Another row.', 'Rows')",
    )
    .unwrap();
    assert_eq!(query_value::<String>(&mut app, rows), "1A row, edited. 2Another row.", "{version}");
    app.batch_execute(
        "SELECT chatbot_detach('rows'); SELECT chatbot_attach('rows', 'document', title_column => 'title', condition => 'id > 1');
         CALL chatbot_sync_all()",
    )
    .unwrap();
    assert_eq!(query_value::<String>(&mut app, rows), "2Another row.", "{version}");
    let sources = "SELECT source_type FROM chatbot_search(1, 'text') ORDER BY 1";
    assert_eq!(query_column::<String>(&mut app, sources), ["link", "product", "product"], "{version}");
}

/// Uses the SQL of each release, which `make release-schema` has kept.
#[test]
fn every_released_version_updates_to_a_new_installation() {
    let folder = extension_folder();
    let sql = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
    // A heading such as "## 0.1.0 (unreleased)".
    let headings = include_str!("../CHANGELOG.md").lines().filter_map(|line| line.strip_prefix("## "));
    let released = headings.filter(|heading| !heading.contains("unreleased"));
    let versions: Vec<&str> = released.filter_map(|heading| heading.split(' ').next()).collect();
    for version in versions {
        let released = fs::read_to_string(sql.join(format!("chatbot_sync--{version}.sql"))).expect(version);
        // A released script never changes; where the changelog names the version of this library it is compared under
        // another number.
        let name = if version == OWN { "0.0.2" } else { version };
        let _script = TemporaryScript::new(&folder, name, &released);
        let (mut fresh, mut updated) = (create_database_with_version(OWN), create_database_with_version(name));
        grant_levels(&mut updated.admin);
        grant_levels(&mut fresh.admin);
        if version != OWN {
            kinds_can_be_added_after_the_update(&mut updated, version);
        }
        let differences = object_differences(&mut fresh.admin, &mut updated.admin);
        let differences = differences.iter().filter(|line| version != OWN || !line[2..].starts_with("extension "));
        assert_eq!(differences.collect::<Vec<_>>(), [""; 0], "{version}");
    }
}
