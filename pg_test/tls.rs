//! Providers over TLS: certificates are checked against the system's authorities, connections are kept, and a handshake
//! that hangs ends.

use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;

use super::harness::{embed_statement, expect_error, prose, set_for_database, use_mock};
use super::mock::Mock;
use super::server::Server;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn create_authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Starts a provider with a certificate for a host that is valid until the end of a year.
fn provider(authority: &Authority, host: &str, year: i32) -> Mock {
    let mut params = CertificateParams::new([host.to_owned()]).unwrap();
    params.not_after = date_time_ymd(year, 12, 31);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    Mock::over_tls(config.with_single_cert(vec![certificate.der().clone()], key.into()).unwrap())
}

/// Starts a server whose system trusts this authority and no other.
fn start_server_trusting(authority: &Authority) -> (Server, File) {
    let name = format!("chatbot_sync_ca_{}_{:?}.pem", std::process::id(), std::thread::current().id());
    let file = File(std::env::temp_dir().join(name));
    std::fs::write(&file.0, authority.pem()).unwrap();
    // The server may run as another user than the test.
    std::fs::set_permissions(&file.0, std::fs::Permissions::from_mode(0o644)).unwrap();
    (Server::start(&[("SSL_CERT_FILE", file.0.to_str().unwrap()), ("SSL_CERT_DIR", "")]), file)
}

/// A file that is deleted at the end of the test.
struct File(PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn certificates_are_checked_against_the_systems_roots() {
    let (ours, strangers, namesakes) =
        (create_authority("ours"), create_authority("strangers"), create_authority("ours"));
    let (mut server, _file) = start_server_trusting(&ours);
    let db = &mut server.db;
    use_mock(db, &provider(&ours, "127.0.0.1", 4000));
    db.session("app").batch_execute(&embed_statement(1, "The text that was there before.")).unwrap();
    for (provider, words) in [
        (provider(&strangers, "127.0.0.1", 4000), "UnknownIssuer"),
        (provider(&namesakes, "127.0.0.1", 4000), "BadSignature"),
        (provider(&ours, "127.0.0.2", 4000), "not valid for name"),
        (provider(&ours, "127.0.0.1", 2000), "expired"),
    ] {
        set_for_database(db, "openai_compatible_url", &provider.url);
        let mut app = db.session("app");
        app.batch_execute("SET chatbot_sync.max_attempts = 1").unwrap();
        let failure = expect_error(&mut app, &embed_statement(1, "Another text."));
        assert_eq!(failure.code, "HV00N", "{failure:?}");
        assert!(failure.detail.contains("certificate") && failure.detail.contains(words), "{failure:?}");
        assert!(provider.state().requests.is_empty());
    }
}

#[test]
fn connections_over_tls_are_kept() {
    let ours = create_authority("ours");
    let (mut server, _file) = start_server_trusting(&ours);
    let mock = provider(&ours, "127.0.0.1", 4000);
    use_mock(&mut server.db, &mock);
    let mut app = server.db.session("app");
    app.batch_execute("SET chatbot_sync.max_parallel_requests = 1; SET chatbot_sync.batch_size = 2").unwrap();
    app.batch_execute(&embed_statement(1, &prose(60))).unwrap();
    app.batch_execute(&embed_statement(2, "A text.")).unwrap();
    assert!(mock.state().requests.len() > 2);
    assert_eq!(mock.state().connections, 1);
}

#[test]
fn a_handshake_that_hangs_ends_with_its_timeout_or_a_cancel() {
    let (mut server, _file) = start_server_trusting(&create_authority("ours"));
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    use_mock(&mut server.db, &Mock::new());
    set_for_database(&mut server.db, "openai_compatible_url", &format!("https://{}/v1", deaf.local_addr().unwrap()));
    let mut app = server.db.session("app");
    app.batch_execute("SET chatbot_sync.sync_timeout = '1h'; SET chatbot_sync.max_attempts = 1").unwrap();
    app.batch_execute("SET chatbot_sync.connect_timeout = '50ms'").unwrap();
    let late = expect_error(&mut app, &embed_statement(1, "A text."));
    assert_eq!(late.code, "HV00N");
    assert!(late.detail.ends_with("no connection within chatbot_sync.connect_timeout"), "{late:?}");
    app.batch_execute("SET chatbot_sync.connect_timeout = '1h'; SET statement_timeout = '50ms'").unwrap();
    assert_eq!(expect_error(&mut app, &embed_statement(1, "A text.")).code, "57014");
    // Reads to the end: both sockets are closed.
    for _ in 0..2 {
        let _ = deaf.accept().unwrap().0.read_to_end(&mut Vec::new());
    }
    app.batch_execute("RESET statement_timeout; SELECT chatbot_chunk('still here')").unwrap();
}
