//! Interrupts while a statement waits for a provider: cancel, terminate, timeouts, shutdown and a lost client end it at
//! once, and leave no thread and no connection.

use super::harness::{
    database_with_mock, embed_statement, expect_error, prose, query_value, set_for_database, use_mock,
};
use super::mock::{Fault, Mock};
use super::server::Server;

/// Returns the SQLSTATE of an error. A client that only notices the closed connection counts as 57P01, terminated.
fn code(error: &postgres::Error) -> &str {
    error.code().map_or(if error.is_closed() { "57P01" } else { "" }, |code| code.code())
}

/// Interrupts a call that waits for a server which does not answer, with this many requests in flight. Returns the
/// SQLSTATE, and whether the session still works.
fn interrupt_waiting_call(requests: usize, fault: Fault, how: &str) -> String {
    let (db, mock) = database_with_mock();
    let mut app = db.session("app");
    let mut watcher = db.other();
    let pid: i32 = query_value(&mut app, "SELECT pg_backend_pid()");
    mock.state().always = Some(fault);
    let sql = format!(
        "SET chatbot_sync.sync_timeout = '1h'; SET chatbot_sync.batch_size = 1;
         SET chatbot_sync.max_parallel_requests = {requests}; {}",
        embed_statement(1, &prose(20 * requests))
    );
    let call = std::thread::spawn(move || {
        let error = app.batch_execute(&sql).unwrap_err();
        let works =
            app.query_one("SELECT count(*) FROM chatbot_sync.source", &[]).is_ok_and(|row| row.get::<_, i64>(0) == 0);
        format!("{} {works}", code(&error))
    });
    mock.wait(|state| state.in_flight == requests);
    watcher.batch_execute(&how.replace("PID", &pid.to_string())).unwrap();
    let outcome = call.join().unwrap();
    // If the backend crashed, this session would end too, and the query would fail.
    while query_value::<i64>(&mut watcher, &format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}")) > 0 {
        std::thread::yield_now();
    }
    // Every socket is closed: the mock notices that all its clients have left.
    mock.wait(|state| state.in_flight == 0);
    assert_eq!(mock.state().abandoned, requests);
    outcome
}

#[test]
fn cancel_ends_the_wait_for_the_provider() {
    for (requests, fault) in [(1, Fault::Hang), (16, Fault::Hang), (4, Fault::Drip)] {
        assert_eq!(interrupt_waiting_call(requests, fault, "SELECT pg_cancel_backend(PID)"), "57014 true");
    }
}

#[test]
fn terminate_ends_the_wait_for_the_provider() {
    assert_eq!(interrupt_waiting_call(1, Fault::Hang, "SELECT pg_terminate_backend(PID)"), "57P01 false");
    assert_eq!(interrupt_waiting_call(16, Fault::Hang, "SELECT pg_terminate_backend(PID)"), "57P01 false");
}

#[test]
fn fast_shutdown_ends_the_wait_for_the_provider() {
    let mut server = Server::start(&[]);
    let mock = Mock::new();
    use_mock(&mut server.db, &mock);
    mock.state().always = Some(Fault::Hang);
    let mut app = server.db.session("app");
    let sql = format!(
        "SET chatbot_sync.sync_timeout = '1h'; SET chatbot_sync.batch_size = 1;
         SET chatbot_sync.max_parallel_requests = 4; {}",
        embed_statement(1, &prose(80))
    );
    let pid: i32 = query_value(&mut app, "SELECT pg_backend_pid()");
    let call = std::thread::spawn(move || code(&app.batch_execute(&sql).unwrap_err()).to_owned());
    mock.wait(|state| state.in_flight == 4);
    // The server stops although no request was answered.
    server.stop("fast");
    assert_eq!(call.join().unwrap(), "57P01");
    assert!(server.log().contains(&format!("\n{pid} 57P01 FATAL:")), "{}", server.log());
    mock.wait(|state| state.in_flight == 0);
    assert_eq!(mock.state().abandoned, 4);
}

#[test]
fn statement_timeout_ends_the_wait_and_leaves_no_threads() {
    let (mut db, mock) = database_with_mock();
    mock.state().always = Some(Fault::Hang);
    let mut app = db.session("app");
    let pid: i32 = query_value(&mut app, "SELECT pg_backend_pid()");
    for _ in 0..3 {
        app.batch_execute("SET statement_timeout = '50ms'").unwrap();
        assert_eq!(expect_error(&mut app, &embed_statement(1, "A text.")).code, "57014");
        app.batch_execute("SET statement_timeout = 0").unwrap();
    }
    mock.wait(|state| state.in_flight == 0);
    // The threads end as soon as their sockets are closed.
    let threads = || std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count();
    while threads() > 1 {
        std::thread::yield_now();
    }
    assert_eq!(query_value::<i64>(&mut db.admin, "SELECT count(*) FROM chatbot_sync.source"), 0);
}

#[test]
fn a_lost_client_ends_the_wait() {
    let (db, mock) = database_with_mock();
    mock.state().always = Some(Fault::Hang);
    let mut app = db.session("app");
    let mut watcher = db.other();
    let pid: i32 = query_value(&mut app, "SELECT pg_backend_pid()");
    app.batch_execute("SET client_connection_check_interval = '20ms'; SET chatbot_sync.sync_timeout = '1h'").unwrap();
    let cancel = app.cancel_token();
    let call = std::thread::spawn(move || app.batch_execute(&embed_statement(1, "A text.")).is_err());
    mock.wait(|state| state.in_flight == 1);
    // The client's socket is shut without sending Terminate.
    let sql = format!("SELECT client_port FROM pg_stat_activity WHERE pid = {pid}");
    shut_down_socket(u16::try_from(query_value::<i32>(&mut watcher, &sql)).unwrap());
    mock.wait(|state| state.in_flight == 0);
    assert!(call.join().unwrap());
    drop(cancel);
}

/// Shuts this process' end of the connection with this local port.
#[allow(unsafe_code)]
fn shut_down_socket(port: u16) {
    for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let Some(fd) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        // SAFETY: getsockname fails on what is no socket; the address has room for any; shutting a socket frees nothing.
        unsafe {
            let mut address: libc::sockaddr_in = std::mem::zeroed();
            let mut length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            let found = libc::getsockname(fd, (&raw mut address).cast(), &raw mut length) == 0;
            if found && i32::from(address.sin_family) == libc::AF_INET && u16::from_be(address.sin_port) == port {
                libc::shutdown(fd, libc::SHUT_RDWR);
            }
        }
    }
}

#[test]
fn a_connect_that_hangs_can_be_cancelled() {
    let (mut db, _mock) = database_with_mock();
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    set_for_database(&mut db, "openai_compatible_url", &format!("http://{}/v1", deaf.local_addr().unwrap()));
    let mut app = db.session("app");
    app.batch_execute("SET statement_timeout = '50ms'; SET chatbot_sync.sync_timeout = '1h'").unwrap();
    assert_eq!(expect_error(&mut app, &embed_statement(1, "A text.")).code, "57014");
    app.batch_execute("RESET statement_timeout; SELECT chatbot_chunk('still here')").unwrap();
}
