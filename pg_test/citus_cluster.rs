//! A Citus cluster with a coordinator and two worker nodes. Without Citus its tests are skipped with a message;
//! CHATBOT_SYNC_CITUS=required makes that a failure.

use std::io::Write;
use std::net::TcpListener;

use postgres::Client;

use super::harness::{DOCUMENTS, Db, EXTENSION, query_value};
use super::server::Server;

/// A coordinator with the extension, and two worker nodes.
pub struct Cluster {
    /// The server that applications connect to.
    pub coordinator: Server,
    /// The worker nodes.
    pub nodes: [Server; 2],
    /// The ports of the servers, the coordinator's first.
    pub ports: [u16; 3],
}

impl Cluster {
    /// Starts the servers; the nodes have nothing but Citus. Returns `None` where Citus is not installed.
    pub fn start(test: &str, libraries: &str) -> Option<Self> {
        let there = "SELECT count(*) = 1 FROM pg_available_extensions WHERE name = 'citus'";
        if !query_value::<bool>(&mut Db::without_extension().admin, there) {
            assert_ne!(std::env::var("CHATBOT_SYNC_CITUS").as_deref(), Ok("required"), "the Postgres has no Citus");
            // println!() is not used here: the test runner hides the output of tests that succeed.
            writeln!(std::io::stderr(), "{test} is skipped: the tests' Postgres has no Citus").unwrap();
            return None;
        }
        let ports = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap()).map(|l| l.local_addr().unwrap().port());
        let coordinator = Server::start_with_citus(libraries, ports[0], EXTENSION);
        let node = |port| Server::start_with_citus("citus", port, "CREATE EXTENSION citus");
        Some(Self { coordinator, nodes: [node(ports[1]), node(ports[2])], ports })
    }

    /// Returns a superuser's session of the coordinator.
    pub fn admin(&mut self) -> &mut Client {
        &mut self.coordinator.db.admin
    }

    /// Registers the nodes with the coordinator, as a DBA does.
    pub fn add_nodes(&mut self) {
        let [coordinator, one, two] = self.ports;
        self.admin()
            .batch_execute(&format!(
                "CREATE EXTENSION citus; SELECT citus_set_coordinator_host('127.0.0.1', {coordinator});
                SELECT citus_add_node('127.0.0.1', {one}), citus_add_node('127.0.0.1', {two})"
            ))
            .unwrap();
    }

    /// Registers the nodes and distributes each table over eight shards.
    pub fn distribute(&mut self) {
        self.add_nodes();
        self.admin().batch_execute("SELECT chatbot_distribute(8)").unwrap();
    }
}

/// Creates an application's tables, with rows and a source that exist before the tables are attached.
pub fn create_documents_before_attach(db: &mut Db) {
    db.admin.batch_execute("GRANT CREATE ON SCHEMA public TO app").unwrap();
    db.session("app").batch_execute(DOCUMENTS).unwrap();
    let early = "INSERT INTO documents (chatbot_id, title, content) SELECT 1 + i % 3, 'Early', 'Early document ' || i
        FROM generate_series(1, 7) AS i; SELECT chatbot_embed_source(4, 'document', 1, 'From before.')";
    db.session("app").batch_execute(early).unwrap();
}

/// Returns the number of shards that have a valid HNSW index.
pub fn count_indexed_shards(cluster: &mut Cluster) -> i64 {
    let valid = "SELECT count(*) FROM run_command_on_shards('chatbot_sync.embedding', $$SELECT true FROM pg_index i JOIN pg_class c
        ON c.oid = i.indexrelid WHERE i.indrelid = '%s'::regclass AND i.indisvalid AND c.relname LIKE 'embedding\\_hnsw\\_%%'$$)
        WHERE result = 't'";
    query_value(cluster.admin(), valid)
}
