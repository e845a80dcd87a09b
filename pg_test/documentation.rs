//! README.md and the pages of docs/: every statement in them runs, and the reference names every function, table,
//! setting and error. docs/dba.md is run as a script of its own (dba.rs).

use super::harness::{Db, query_column, query_value};
use super::mock::Mock;

const REFERENCE: &str = include_str!("../docs/reference.md");

/// The pages whose statements are run one after the other in one database.
const PAGES: [&str; 4] = [
    include_str!("../README.md"),
    include_str!("../docs/guide.md"),
    REFERENCE,
    include_str!("../docs/troubleshooting.md"),
];

/// Returns the cells of the table under a heading of the reference.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let section = REFERENCE.split(&format!("\n## {heading}\n")).nth(1).unwrap();
    let lines = section.split("\n#").next().unwrap().lines().filter(|l| l.starts_with("| "));
    lines.skip(1).map(|l| l.trim_matches('|').split(" | ").map(|c| c.trim().trim_matches('`')).collect()).collect()
}

#[test]
fn every_statement_of_the_pages_runs() {
    let mut db = Db::without_extension();
    db.admin
        .batch_execute(
            "DROP ROLE IF EXISTS monitor; DROP ROLE IF EXISTS odoo; DROP ROLE IF EXISTS reports; CREATE ROLE reports",
        )
        .unwrap();
    let statements = |page: &'static str| page.split("```sql\n").skip(1).map(|b| b.split("```").next().unwrap());
    let blocks: Vec<&str> = PAGES.into_iter().flat_map(statements).collect();
    assert!(blocks.len() > 40, "{}", blocks.len());
    // The first block is the example at the top of README.md: it needs the extension and a table, so it runs last.
    let mock = Mock::new();
    let server = mock.url.trim_end_matches("/v1");
    for block in &blocks[1..] {
        // Settings are set for this session instead of the server, and addresses are those of the mock.
        let block = block.replace("ALTER SYSTEM SET shared_preload_libraries", "-- ");
        let block = block.replace("ALTER SYSTEM SET", "SET").replace("SELECT pg_reload_conf();", "");
        let block = &block.replace("http://gpu:11434", server).replace("http://gpu:8000", server);
        db.admin.batch_execute(block).unwrap_or_else(|error| panic!("{error:?}\n{block}"));
    }
    db.admin.batch_execute(blocks[0]).unwrap();
    db.admin.batch_execute("DROP OWNED BY odoo; DROP ROLE odoo; DROP ROLE reports; DROP ROLE monitor").unwrap();
}

#[test]
fn every_function_table_and_setting_is_in_the_reference() {
    let mut db = Db::new();
    let ours =
        "FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'chatbot_sync' AND d.deptype = 'e'";
    let calls = format!(
        "SELECT format('%s(%s)', p.proname, pg_get_function_arguments(p.oid)) {ours} JOIN pg_proc p ON p.oid = d.objid
         WHERE d.classid = 'pg_proc'::regclass AND p.pronamespace = 'public'::regnamespace"
    );
    let casts =
        ["::text[]", "::text", "::jsonb", "::name[]", "::name", "::real", "::integer", "::bigint", "::regclass", "IN "];
    let plain =
        |call: &str| casts.iter().fold(call.to_owned(), |c, cast| c.replace(cast, "")).replace("integer", "int");
    let documented: Vec<&str> = table("Functions").iter().map(|row| row[0]).collect();
    for call in query_column::<String>(&mut db.admin, &calls) {
        let call = plain(&call);
        assert!(documented.contains(&call.as_str()), "{call}");
    }
    let tables = "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'chatbot_sync'::regnamespace AND relkind IN ('r', 'v')";
    let documented: Vec<&str> = table("Tables").iter().map(|row| row[0]).collect();
    assert_eq!(sorted(query_column::<String>(&mut db.admin, tables)), sorted(documented));
    let settings = "SELECT name || ' ' || coalesce(boot_val, 'none') FROM pg_settings WHERE name LIKE 'chatbot_sync.%'";
    db.admin.batch_execute("SELECT chatbot_chunk('')").unwrap();
    let documented: Vec<String> = table("Settings")
        .iter()
        // Keys and the proxy's address are not in pg_settings.
        .filter(|row| !row[0].ends_with("_api_key") && !row[0].ends_with("proxy"))
        .map(|row| format!("{} {}", row[0], row[1]))
        .collect();
    assert_eq!(sorted(query_column::<String>(&mut db.admin, settings)), sorted(documented));
}

#[test]
fn every_sqlstate_is_in_the_reference() {
    let mut db = Db::new();
    let rows = table("Errors");
    for row in &rows {
        let sql = format!(
            "CREATE OR REPLACE FUNCTION pg_temp.code() RETURNS text LANGUAGE plpgsql AS
             $$ BEGIN RAISE {}; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END $$",
            row[1]
        );
        db.admin.batch_execute(&sql).unwrap();
        assert_eq!(query_value::<String>(&mut db.admin, "SELECT pg_temp.code()"), row[0], "{}", row[1]);
    }
    let used = include_str!("../src/pg/runtime/sql_error.rs").split("PgSqlErrorCode::ERRCODE_").skip(1);
    let mut used: Vec<String> =
        used.map(|s| s.split(|c: char| !c.is_ascii_uppercase() && c != '_').next().unwrap().to_lowercase()).collect();
    let raised =
        concat!(include_str!("../sql/model.sql"), include_str!("../sql/index.sql"), include_str!("../sql/citus.sql"));
    let raised = raised.split("RAISE ").skip(1).filter_map(|s| s.split(" USING").next());
    used.extend(raised.filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_')).map(str::to_owned));
    used.sort();
    used.dedup();
    let documented: Vec<&str> = rows.iter().map(|row| row[1]).collect();
    assert_eq!(sorted(used), sorted(documented));
}

#[test]
fn every_object_has_a_comment() {
    let mut db = Db::new();
    let silent = "SELECT pg_describe_object(d.classid, d.objid, 0) FROM pg_depend d
        JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'chatbot_sync' AND d.deptype = 'e'
        LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
        WHERE (d.classid IN ('pg_proc'::regclass, 'pg_namespace'::regclass) OR c.relkind IN ('r', 'v'))
            AND obj_description(d.objid, d.classid::regclass::name) IS NULL
            AND pg_describe_object(d.classid, d.objid, 0) NOT IN ('schema tests', 'function tests.server_starts()')";
    assert_eq!(query_column::<String>(&mut db.admin, silent), [""; 0]);
}

fn sorted<T: Into<String>>(items: Vec<T>) -> Vec<String> {
    let mut items: Vec<String> = items.into_iter().map(Into::into).collect();
    items.sort();
    items
}
