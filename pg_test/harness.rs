//! The server that all tests share, a database for each test, and helpers to query it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use postgres::types::FromSqlOwned;
use postgres::{Client, Config, NoTls};

use super::mock::Mock;

/// Returns a text of several chunks in which every sentence differs.
pub(crate) fn prose(sentences: usize) -> String {
    (0..sentences)
        .map(|i| {
            format!("Sentence {i} of this text tells something about the number {}, which is not said twice. ", i * 37)
        })
        .collect()
}

/// The roles that tests connect as.
pub(crate) const ROLES: &str =
    "CREATE ROLE boss LOGIN; CREATE ROLE app LOGIN; CREATE ROLE reader LOGIN; CREATE ROLE stranger LOGIN;";

/// Creates the extension and gives the roles their levels.
pub(crate) const EXTENSION: &str = "CREATE EXTENSION chatbot_sync CASCADE;
    SELECT chatbot_grant('app'); SELECT chatbot_grant('reader', 'read'); SELECT chatbot_grant('boss', 'admin');";

/// A database of one test. It is not dropped; the shared server ends with the test run.
pub(crate) struct Db {
    place: Config,
    name: String,
    /// A superuser's session.
    pub admin: Client,
}

/// An error as the client receives it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DbError {
    pub code: String,
    pub message: String,
    pub detail: String,
    pub hint: String,
}

impl Db {
    /// A new database with the extension. The roles `reader`, `app` and `boss` have the levels `read`, `app` and
    /// `admin`; `stranger` has none.
    pub fn new() -> Self {
        Self::from_template("with_extension")
    }

    /// A new database without the extension.
    pub fn without_extension() -> Self {
        Self::from_template("template0")
    }

    fn from_template(template: &str) -> Self {
        static TEMPLATE: OnceLock<()> = OnceLock::new();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        TEMPLATE.get_or_init(|| {
            let mut client = connect(shared_server(), "postgres");
            client.batch_execute(ROLES).unwrap();
            client.batch_execute("CREATE DATABASE with_extension").unwrap();
            connect(shared_server(), "with_extension").batch_execute(EXTENSION).unwrap();
        });
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let mut maker = connect(shared_server(), "postgres");
        // One at a time, since two copies of a template disturb each other; a session that has just left the template
        // may still be there, hence the loop.
        maker.batch_execute("SELECT pg_advisory_lock(1)").unwrap();
        while let Err(error) = maker.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {template}")) {
            assert_eq!(error.code().map(|c| c.code()), Some("55006"), "{error}");
        }
        Self::at(shared_server().clone(), &name)
    }

    /// A database of the server that `place` connects to as a superuser.
    pub fn at(place: Config, name: &str) -> Self {
        Self { admin: connect(&place, name), name: name.to_owned(), place }
    }

    /// Another database of the same server.
    pub fn in_database(&self, name: &str) -> Self {
        Self::at(self.place.clone(), name)
    }

    /// Opens a session as a role.
    pub fn session(&self, role: &str) -> Client {
        connect(self.place.clone().user(role), &self.name)
    }

    /// Opens a session as a role, and collects the messages that it receives: "NOTICE: ..." and "WARNING: ...".
    pub fn session_with_notices(&self, role: &str) -> (Client, Arc<Mutex<Vec<String>>>) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let mut place = self.place.clone();
        let tell = told.clone();
        place
            .user(role)
            .notice_callback(move |n| tell.lock().unwrap().push(format!("{}: {}", n.severity(), n.message())));
        let mut client = connect(&place, &self.name);
        client.batch_execute("SET client_min_messages = notice").unwrap();
        (client, told)
    }

    /// Opens another session as the superuser.
    pub fn other(&self) -> Client {
        connect(&self.place, &self.name)
    }
}

fn connect(place: &Config, database: &str) -> Client {
    let mut client = place.clone().dbname(database).connect(NoTls).unwrap();
    client.batch_execute("SET client_min_messages = warning").unwrap();
    client
}

/// Returns a database whose model is that of a mock provider, and the mock.
pub(crate) fn database_with_mock() -> (Db, Mock) {
    let (mut db, mock) = (Db::new(), Mock::new());
    use_mock(&mut db, &mock);
    (db, mock)
}

/// Returns a database with a mock provider, the mock, and a session of `app`, which may create tables.
pub(crate) fn application_with_mock() -> (Db, Mock, Client) {
    let (mut db, mock) = database_with_mock();
    db.admin.batch_execute("GRANT CREATE ON SCHEMA public TO app").unwrap();
    let app = db.session("app");
    (db, mock, app)
}

/// An application's tables, similar to those of Odoo.
pub(crate) const DOCUMENTS: &str = "CREATE TABLE chatbots (id serial PRIMARY KEY, name text);
    CREATE TABLE documents (
        id serial PRIMARY KEY, chatbot_id int REFERENCES chatbots ON DELETE CASCADE, title text, content text,
        active boolean DEFAULT true, status varchar, processed boolean, error text, write_date timestamp, write_uid int
    );
    INSERT INTO chatbots (name) VALUES ('One'), ('Two'), ('Three');";

/// Attaches these tables, with every optional column.
pub(crate) const ATTACH: &str = "SELECT chatbot_attach('documents', 'document', metadata_columns => '{title}',
        enabled_column => 'active', status_column => 'status', processed_column => 'processed', error_column => 'error');
    SELECT chatbot_attach_chatbots('chatbots');";

/// Does the same as [`application`], with documents that are attached.
pub(crate) fn attached_documents() -> (Db, Mock, Client) {
    let (db, mock, mut app) = application_with_mock();
    app.batch_execute(DOCUMENTS).unwrap();
    app.batch_execute(ATTACH).unwrap();
    (db, mock, app)
}

/// Returns each difference between the documents and what is stored for them; empty where there is none. Each document
/// has to be one chunk long.
pub(crate) fn find_differences(client: &mut Client) -> Vec<String> {
    query_column(
        client,
        "SELECT format('row %s, vector %s', to_json(d), to_json(e))
        FROM (SELECT chatbot_id, id, title, content FROM documents
            WHERE chatbot_id IS NOT NULL AND active AND btrim(content) <> '') AS d
        FULL JOIN (SELECT chatbot_id, source_id, content, metadata FROM chatbot_sync.embedding WHERE enabled) AS e
            ON (e.chatbot_id, e.source_id) = (d.chatbot_id, d.id)
        WHERE e.content IS DISTINCT FROM d.content OR e.metadata ->> 'title' IS DISTINCT FROM d.title
        UNION ALL SELECT format('source %s', to_json(s)) FROM chatbot_sync.source s
            LEFT JOIN documents d ON (d.chatbot_id, d.id) = (s.chatbot_id, s.source_id)
        WHERE d.id IS NULL OR s.enabled <> d.active OR s.enabled AND s.status <> 'synced'
        UNION ALL SELECT format('status %s', to_json(d)) FROM documents d
        WHERE chatbot_id IS NOT NULL AND active AND (status, processed, error) IS DISTINCT FROM ('synced', true, NULL)",
    )
}

/// Waits until the session with this pid waits for a lock.
pub(crate) fn wait_for_lock(watcher: &mut Client, pid: i32) {
    let sql = format!("SELECT coalesce(wait_event_type = 'Lock', false) FROM pg_stat_activity WHERE pid = {pid}");
    while !query_value::<bool>(watcher, &sql) {}
}

/// Makes the mock the provider of the database.
pub(crate) fn use_mock(db: &mut Db, mock: &Mock) {
    set_for_database(db, "openai_compatible_url", &mock.url);
    db.admin.batch_execute("SELECT chatbot_set_model('openai_compatible', 'mock', 8)").unwrap();
}

/// Sets a setting for the superuser's session and for every session that connects later. The name is without its
/// prefix.
pub(crate) fn set_for_database(db: &mut Db, name: &str, value: &str) {
    let name = format!("chatbot_sync.{name}");
    db.admin.batch_execute(&format!("SET {name} = '{value}'")).unwrap();
    let database: String = query_value(&mut db.admin, "SELECT current_database()::text");
    db.admin.batch_execute(&format!("ALTER DATABASE {database} SET {name} = '{value}'")).unwrap();
}

/// Returns the statement that embeds a document of chatbot 1.
pub(crate) fn embed_statement(id: i64, text: &str) -> String {
    format!("SELECT chatbot_embed_source(1, 'document', {id}, $text${text}$text$)")
}

/// Waits until a query returns true.
pub(crate) fn wait_until(client: &mut Client, sql: &str) {
    while !query_value::<bool>(client, sql) {
        pause();
    }
}

/// Pauses between two checks of a condition, so that the process that makes it true gets the processor.
pub(crate) fn pause() {
    std::thread::sleep(std::time::Duration::from_millis(2));
}

/// Returns the value of a query that returns one row with one column.
pub(crate) fn query_value<T: FromSqlOwned>(client: &mut Client, sql: &str) -> T {
    let rows = client.query(sql, &[]).unwrap_or_else(|error| panic!("{:.300}: {error:?}", sql));
    assert_eq!(rows.len(), 1, "{sql}");
    rows[0].get(0)
}

/// Returns the first column of a query.
pub(crate) fn query_column<T: FromSqlOwned>(client: &mut Client, sql: &str) -> Vec<T> {
    client
        .query(sql, &[])
        .unwrap_or_else(|error| panic!("{:.300}: {error:?}", sql))
        .iter()
        .map(|row| row.get(0))
        .collect()
}

/// Runs a statement that has to fail, and returns its error.
pub(crate) fn expect_error(client: &mut Client, sql: &str) -> DbError {
    let error = client.batch_execute(sql).expect_err(&sql[..sql.len().min(300)]);
    let error = error.as_db_error().unwrap_or_else(|| panic!("{:.300}: {error:?}", sql));
    DbError {
        code: error.code().code().to_owned(),
        message: error.message().to_owned(),
        detail: error.detail().unwrap_or_default().to_owned(),
        hint: error.hint().unwrap_or_default().to_owned(),
    }
}

/// Returns all rows of our tables with their xmin and ctid, as one text, so that any write is seen.
pub(crate) fn snapshot_of_all_tables(client: &mut Client) -> String {
    let tables = ["source", "embedding", "model", "job", "session", "message", "sync_log", "sync_total"];
    let all = tables.map(|t| {
        format!("SELECT string_agg(t::text || xmin || ctid, E'\\n' ORDER BY t::text) FROM chatbot_sync.{t} t")
    });
    all.iter()
        .map(|sql| query_value::<Option<String>>(client, sql).unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n\n")
}

/// The server of all tests, started once.
fn shared_server() -> &'static Config {
    static SHARED: OnceLock<Config> = OnceLock::new();
    SHARED.get_or_init(|| {
        pgrx_tests::run_test("server_starts", None, crate::pg_test::postgresql_conf_options()).unwrap();
        let (mut client, _) = pgrx_tests::client().unwrap();
        let port = query_value::<String>(&mut client, "SHOW port").parse().unwrap();
        let mut config = Config::new();
        config.host("localhost").port(port).user(&pgrx_tests::get_pg_user());
        config
    })
}
