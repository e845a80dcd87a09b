//! Every statement of docs/dba.md runs, in its order, and leaves the databases as the page says.

use std::fmt::Write;

use super::harness::{query_column, query_value, wait_until};
use super::mock::Mock;
use super::server::Server;

const PAGE: &str = include_str!("../docs/dba.md");

/// Returns the page as one script for psql. Shell commands are called from it; those that need root are left out.
fn script() -> String {
    let mut script = String::new();
    for block in PAGE.split("\n```").skip(1).step_by(2) {
        if let Some(sql) = block.strip_prefix("sql\n") {
            writeln!(script, "{sql}").unwrap();
        } else {
            let commands = block.strip_prefix("sh\n").unwrap().lines().filter(|line| !line.starts_with('#'));
            commands.for_each(|command| writeln!(script, "\\! {command}").unwrap());
        }
    }
    script
}

#[test]
fn every_statement_of_dba_md_runs() {
    let mock = Mock::new();
    let mut server = Server::start_preloaded(&["chatbot_sync.sync_timeout=3s"]);
    let bin: String = query_value(&mut server.db.admin, "SELECT setting FROM pg_config WHERE name = 'BINDIR'");
    let script = script().replace("http://gpu:8000/v1", &mock.url).replace("shop.dump", &server.file("shop.dump"));
    let before =
        format!("\\setenv PATH {bin}:/usr/bin:/bin\n\\setenv PGHOST {}\n\\set ON_ERROR_STOP 1\n", server.file(""));
    let file = server.file("day.sql");
    std::fs::write(&file, before + &script).unwrap();
    let (said, done) = server.run_client_program("psql", "postgres", &["-X", "-d", "postgres", "-f", &file]);
    assert!(done, "{said}");
    let mut shop = server.db.in_database("shop");
    wait_until(&mut shop.admin, "SELECT count(*) = 4 AND bool_and(status = 'synced') FROM chatbot_sync.source");
    for name in ["shop", "shop_copy", "shop_odoo"] {
        let mut db = server.db.in_database(name);
        assert_eq!(
            query_column::<String>(&mut db.admin, "SELECT v::text FROM chatbot_verify() AS v"),
            [""; 0],
            "{name}"
        );
        assert_eq!(query_value::<i64>(&mut db.admin, "SELECT count(*) FROM chatbot_sync.host_table"), 2, "{name}");
        assert_eq!(
            query_value::<i64>(
                &mut db.admin,
                "SELECT count(*) FROM chatbot_sync.embedding WHERE source_type = 'document'"
            ),
            3,
            "{name}"
        );
    }
}
