//! A server, a database for each test, and short words for what tests ask.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use postgres::types::FromSqlOwned;
use postgres::{Client, NoTls};

use super::mock::Mock;

/// A text that several chunks are cut from, sentence by sentence different.
pub(crate) fn prose(sentences: usize) -> String {
    (0..sentences)
        .map(|i| {
            format!("Sentence {i} of this text tells something about the number {}, which is not said twice. ", i * 37)
        })
        .collect()
}

/// A database of a test's own. It stays until the server goes, which is right after the tests.
pub(crate) struct Db {
    name: String,
    /// A superuser's session.
    pub admin: Client,
}

/// How an error looks from outside.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub code: String,
    pub message: String,
    pub detail: String,
    pub hint: String,
}

impl Db {
    /// A new database with the extension, and the roles `app`, `reader` and `boss` with their levels, and `stranger` without.
    pub fn new() -> Self {
        Self::from_template("with_extension")
    }

    /// A new database as Postgres makes it.
    pub fn without_extension() -> Self {
        Self::from_template("template0")
    }

    fn from_template(template: &str) -> Self {
        static TEMPLATE: OnceLock<()> = OnceLock::new();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        TEMPLATE.get_or_init(|| {
            let mut client = connect("postgres", None);
            client
                .batch_execute(
                    "DROP ROLE IF EXISTS app; DROP ROLE IF EXISTS reader; DROP ROLE IF EXISTS stranger; DROP ROLE IF EXISTS boss;
                     CREATE ROLE boss LOGIN; CREATE ROLE app LOGIN; CREATE ROLE reader LOGIN; CREATE ROLE stranger LOGIN;",
                )
                .unwrap();
            client.batch_execute("CREATE DATABASE with_extension").unwrap();
            connect("with_extension", None)
                .batch_execute(
                    "CREATE EXTENSION chatbot_sync CASCADE;
                     SELECT chatbot_grant('app'); SELECT chatbot_grant('reader', 'read');
                     SELECT chatbot_grant('boss', 'admin');",
                )
                .unwrap();
        });
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let mut maker = connect("postgres", None);
        // One at a time: two copies of a template get in each other's way, and a session that just left it may linger.
        maker.batch_execute("SELECT pg_advisory_lock(1)").unwrap();
        while let Err(error) = maker.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {template}")) {
            assert_eq!(error.code().map(|c| c.code()), Some("55006"), "{error}");
        }
        Self { admin: connect(&name, None), name }
    }

    /// A session of a role.
    pub fn session(&self, role: &str) -> Client {
        connect(&self.name, Some(role))
    }

    /// A superuser's further session.
    pub fn other(&self) -> Client {
        connect(&self.name, None)
    }
}

fn connect(database: &str, role: Option<&str>) -> Client {
    boot();
    let mut config = postgres::Config::new();
    config.host("localhost").port(port()).dbname(database).user(role.unwrap_or(&pgrx_tests::get_pg_user()));
    let mut client = config.connect(NoTls).unwrap();
    client.batch_execute("SET client_min_messages = warning").unwrap();
    client
}

/// A database that embeds with a mock, and the mock.
pub(crate) fn remote() -> (Db, Mock) {
    let mut db = Db::new();
    let mock = Mock::new();
    set(&mut db, "openai_compatible_url", &mock.url);
    db.admin.batch_execute("SELECT chatbot_set_model('openai_compatible', 'mock', 8)").unwrap();
    (db, mock)
}

/// A setting for every later session, and for the superuser's at once.
pub(crate) fn set(db: &mut Db, name: &str, value: &str) {
    let name = format!("chatbot_sync.{name}");
    db.admin.batch_execute(&format!("SET {name} = '{value}'")).unwrap();
    let database: String = one(&mut db.admin, "SELECT current_database()::text");
    db.admin.batch_execute(&format!("ALTER DATABASE {database} SET {name} = '{value}'")).unwrap();
}

/// The statement for a document of chatbot 1.
pub(crate) fn embed(id: i64, text: &str) -> String {
    format!("SELECT chatbot_embed_source(1, 'document', {id}, $text${text}$text$)")
}

/// Rows that come one at a time from a query.
pub(crate) fn one<T: FromSqlOwned>(client: &mut Client, sql: &str) -> T {
    let rows = client.query(sql, &[]).unwrap_or_else(|error| panic!("{:.300}: {error:?}", sql));
    assert_eq!(rows.len(), 1, "{sql}");
    rows[0].get(0)
}

/// The first column.
pub(crate) fn column<T: FromSqlOwned>(client: &mut Client, sql: &str) -> Vec<T> {
    client
        .query(sql, &[])
        .unwrap_or_else(|error| panic!("{:.300}: {error:?}", sql))
        .iter()
        .map(|row| row.get(0))
        .collect()
}

/// A statement that must fail.
pub(crate) fn failure(client: &mut Client, sql: &str) -> Failure {
    let error = client.batch_execute(sql).expect_err(&sql[..sql.len().min(300)]);
    let error = error.as_db_error().unwrap_or_else(|| panic!("{:.300}: {error:?}", sql));
    Failure {
        code: error.code().code().to_owned(),
        message: error.message().to_owned(),
        detail: error.detail().unwrap_or_default().to_owned(),
        hint: error.hint().unwrap_or_default().to_owned(),
    }
}

/// Everything that is stored, as one text to compare.
pub(crate) fn everything(client: &mut Client) -> String {
    let tables = ["source", "embedding", "model", "session", "message", "sync_log"];
    let all = tables.map(|t| {
        format!("SELECT string_agg(t::text || xmin || ctid, E'\\n' ORDER BY t::text) FROM chatbot_sync.{t} t")
    });
    all.iter().map(|sql| one::<Option<String>>(client, sql).unwrap_or_default()).collect::<Vec<_>>().join("\n\n")
}

/// Starts the server once.
fn boot() {
    static BOOTED: OnceLock<()> = OnceLock::new();
    BOOTED.get_or_init(|| {
        pgrx_tests::run_test("server_starts", None, crate::pg_test::postgresql_conf_options()).unwrap();
    });
}

fn port() -> u16 {
    static PORT: OnceLock<u16> = OnceLock::new();
    *PORT.get_or_init(|| {
        let (mut client, _) = pgrx_tests::client().unwrap();
        one::<String>(&mut client, "SHOW port").parse().unwrap()
    })
}
