//! Servers of a single test, beside the shared one: for other start options, and for tests that end or
//! restart the server.

use std::process::{Command, Output};

use super::harness::{Db, EXTENSION, ROLES, query_value};

/// A server on a socket of its own. It is stopped and deleted at the end of the test.
pub(crate) struct Server {
    folder: String,
    pg_ctl: String,
    options: String,
    place: postgres::Config,
    /// Its database `postgres`, with the extension and the same roles as on the shared server.
    pub db: Db,
}

impl Server {
    /// Starts a server with these environment variables beside the tests' own.
    pub fn start(environment: &[(&str, &str)]) -> Self {
        Self::with(environment, &[])
    }

    /// Starts a server with the library preloaded, and with these settings.
    pub fn start_preloaded(settings: &[&str]) -> Self {
        Self::with(&[], &[&["shared_preload_libraries=chatbot_sync"], settings].concat())
    }

    /// Starts a server with these environment variables and settings.
    pub fn with(environment: &[(&str, &str)], settings: &[&str]) -> Self {
        Self::at(environment, settings, 5432, EXTENSION)
    }

    /// Starts a server with these preloaded libraries, which also listens on loopback at this port; `has` is the SQL
    /// that prepares its database.
    pub fn start_with_citus(libraries: &str, port: u16, has: &str) -> Self {
        // The nodes of a cluster connect to each other over TCP, without TLS.
        let preload = format!("shared_preload_libraries={libraries}");
        let settings = [&preload, "listen_addresses=127.0.0.1", "citus.node_conninfo=sslmode=disable"];
        Self::at(&[], &settings, port, has)
    }

    fn at(environment: &[(&str, &str)], settings: &[&str], port: u16, has: &str) -> Self {
        // The shared server starts first, since starting it installs the extension.
        let bin: String =
            query_value(&mut Db::without_extension().admin, "SELECT setting FROM pg_config WHERE name = 'BINDIR'");
        let folder = expect_success(run(&["mktemp", "-d", "/tmp/chatbot_sync.XXXXXX"]));
        let data = format!("{folder}/data");
        let initdb = format!("{bin}/initdb");
        expect_success(run(&[
            &initdb,
            "-D",
            &data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-locale",
            "-N",
        ]));
        let pg_ctl = format!("{bin}/pg_ctl");
        let place = format!("-c listen_addresses= -c port={port} -c unix_socket_directories={folder}");
        let settings: String = settings.iter().map(|setting| format!(" -c '{setting}'")).collect();
        let options = format!("{place} -c fsync=off -c 'log_line_prefix=%p %e '{settings}");
        let log = format!("{folder}/log");
        let variables: Vec<String> = environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut start = vec!["env"];
        start.extend(variables.iter().map(String::as_str));
        start.extend([&pg_ctl, "start", "-D", &data, "-w", "-l", &log, "-o", &options]);
        expect_success(run(&start));
        let mut place = postgres::Config::new();
        place.host_path(&folder).port(port).user("postgres");
        let mut db = Db::at(place.clone(), "postgres");
        db.admin.batch_execute(ROLES).unwrap();
        db.admin.batch_execute(has).unwrap();
        Self { folder, pg_ctl, options, place, db }
    }

    /// Restarts the server. Open sessions are lost.
    pub fn restart(&mut self, mode: &str) {
        let data = format!("{}/data", self.folder);
        let log = format!("{}/log", self.folder);
        expect_success(run(&[&self.pg_ctl, "restart", "-D", &data, "-w", "-m", mode, "-l", &log]));
        self.reconnect();
    }

    /// Reconnects as soon as the server accepts connections.
    pub fn reconnect(&mut self) {
        while self.place.clone().dbname("postgres").connect(postgres::NoTls).is_err() {
            std::thread::yield_now();
        }
        self.db = Db::at(self.place.clone(), "postgres");
    }

    /// Starts a standby that streams from this server. It does not run anything by itself before it is promoted.
    pub fn standby(&self) -> Self {
        let folder = expect_success(run(&["mktemp", "-d", "/tmp/chatbot_sync.XXXXXX"]));
        let data = format!("{folder}/data");
        let bin = self.pg_ctl.trim_end_matches("pg_ctl");
        let from = format!("host={} user=postgres", self.folder);
        expect_success(run(&[
            &format!("{bin}pg_basebackup"),
            "-d",
            &from,
            "-D",
            &data,
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
        ]));
        let options = self.options.replace(&self.folder, &folder);
        let log = format!("{folder}/log");
        expect_success(run(&[&self.pg_ctl, "start", "-D", &data, "-w", "-l", &log, "-o", &options]));
        let mut place = postgres::Config::new();
        place.host_path(&folder).user("postgres");
        let db = Db::at(place.clone(), "postgres");
        Self { folder, pg_ctl: self.pg_ctl.clone(), options, place, db }
    }

    /// Promotes the standby.
    pub fn promote(&self) {
        expect_success(run(&[&self.pg_ctl, "promote", "-D", &format!("{}/data", self.folder), "-w"]));
    }

    /// Sends a signal to a process of the server.
    pub fn signal(&self, signal: &str, pid: i32) {
        run(&["kill", &format!("-{signal}"), &pid.to_string()]);
    }

    /// Stops the server and waits until it has ended; fails if it does not.
    pub fn stop(&self, mode: &str) {
        expect_success(self.try_stop(mode));
    }

    /// Returns the server's log. Each line begins with the pid and the SQLSTATE.
    pub fn log(&self) -> String {
        expect_success(run(&["cat", &format!("{}/log", self.folder)]))
    }

    /// Runs one of Postgres' programs as a client of this server. Returns what it printed on both streams, and
    /// whether it succeeded.
    pub fn run_client_program(&self, program: &str, role: &str, arguments: &[&str]) -> (String, bool) {
        let program = format!("{}{program}", self.pg_ctl.trim_end_matches("pg_ctl"));
        let output = run(&[&[&program, "-h", &self.folder, "-U", role], arguments].concat());
        let said = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&said).into_owned(), output.status.success())
    }

    /// Returns the path of a file in the server's folder.
    pub fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    fn try_stop(&self, mode: &str) -> Output {
        run(&[&self.pg_ctl, "stop", "-D", &format!("{}/data", self.folder), "-w", "-m", mode])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended before, so an error is ignored.
        self.try_stop("immediate");
        run(&["rm", "-r", &self.folder]);
    }
}

/// Runs a command as the user that pgrx runs the shared server as.
fn run(command: &[&str]) -> Output {
    let user = std::env::var("CARGO_PGRX_TEST_RUNAS").ok();
    let sudo = user.as_deref().map_or(Vec::new(), |user| vec!["sudo", "-u", user]);
    let command = [&sudo, command].concat();
    // That user may have no access to the current folder, and libpq would take PGPORT from the environment.
    Command::new(command[0]).args(&command[1..]).current_dir("/").env_remove("PGPORT").output().unwrap()
}

fn expect_success(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
