//! Requests through a proxy: `chatbot_sync.proxy` alone decides, its password is sent and never shown, and a proxy that
//! hangs can be cancelled.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::harness::{database_with_mock, embed_statement, expect_error, set_for_database, use_mock};
use super::mock::Mock;
use super::server::Server;

/// A proxy on loopback that connects every request to the same provider, or refuses all.
struct Proxy {
    address: SocketAddr,
    /// The headers of the requests so far.
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn to_provider(mock: &Mock) -> Self {
        let provider = mock.url.split('/').nth(2).unwrap().to_owned();
        Self::start(Some(provider))
    }

    fn refusing() -> Self {
        Self::start(None)
    }

    fn start(provider: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let shared = heads.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, provider, heads) = (client.unwrap(), provider.clone(), shared.clone());
                std::thread::spawn(move || tunnel(&client, provider.as_deref(), &heads));
            }
        });
        Self { address, heads }
    }

    fn request_heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn tunnel(mut client: &TcpStream, provider: Option<&str>, heads: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(client);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    heads.lock().unwrap().push(head);
    let Some(provider) = provider else {
        return client.write_all(b"HTTP/1.1 407 X\r\ncontent-length: 0\r\n\r\n").ok();
    };
    let provider = TcpStream::connect(provider).ok()?;
    client.write_all(b"HTTP/1.1 200 X\r\n\r\n").ok()?;
    std::thread::scope(|scope| {
        for (mut from, mut to) in [(client, &provider), (&provider, client)] {
            scope.spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    Some(())
}

#[test]
fn requests_go_through_the_proxy() {
    let (mut db, mock) = database_with_mock();
    let proxy = Proxy::to_provider(&mock);
    set_for_database(&mut db, "proxy", &format!("http://{}", proxy.address));
    // Only the proxy can resolve this host.
    set_for_database(&mut db, "openai_compatible_url", "http://provider.invalid:81/v1");
    let mut app = db.session("app");
    for text in ["A text.", "Another text."] {
        app.batch_execute(&embed_statement(1, text)).unwrap();
    }
    assert_eq!(mock.texts(), ["A text.", "Another text."]);
    let heads = proxy.request_heads();
    assert_eq!(heads.len(), 1, "{heads:?}");
    assert!(heads[0].starts_with("CONNECT provider.invalid:81 HTTP/1.1\r\n"), "{heads:?}");
}

#[test]
fn the_environments_proxy_is_ignored() {
    let mock = Mock::new();
    let proxy = Proxy::to_provider(&mock);
    let url = format!("http://{}", proxy.address);
    let names = ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];
    let mut server = Server::start(&names.map(|name| (name, url.as_str())));
    use_mock(&mut server.db, &mock);
    server.db.session("app").batch_execute(&embed_statement(1, "A text.")).unwrap();
    assert_eq!((mock.texts().len(), proxy.request_heads()), (1, Vec::new()));
}

#[test]
fn the_environments_proxy_exceptions_are_ignored() {
    let mock = Mock::new();
    let proxy = Proxy::to_provider(&mock);
    let mut server = Server::start(&[("NO_PROXY", "*"), ("no_proxy", "*")]);
    use_mock(&mut server.db, &mock);
    set_for_database(&mut server.db, "proxy", &format!("http://{}", proxy.address));
    server.db.session("app").batch_execute(&embed_statement(1, "A text.")).unwrap();
    assert_eq!((mock.texts().len(), proxy.request_heads().len()), (1, 1));
}

#[test]
fn the_proxys_password_arrives_and_is_never_shown() {
    let (mut db, mock) = database_with_mock();
    let proxy = Proxy::refusing();
    set_for_database(&mut db, "proxy", &format!("http://user:opensesame@{}", proxy.address));
    let mut app = db.session("app");
    app.batch_execute("SET chatbot_sync.max_attempts = 1").unwrap();
    let refused = expect_error(&mut app, &embed_statement(1, "A text."));
    assert_eq!(refused.code, "HV00N");
    assert!(refused.detail.contains("407"), "{refused:?}");
    assert!(!format!("{refused:?}").contains("opensesame"), "{refused:?}");
    let heads = proxy.request_heads();
    assert!(heads[0].contains("\r\nProxy-Authorization: Basic dXNlcjpvcGVuc2VzYW1l\r\n"), "{heads:?}");
    assert!(mock.state().requests.is_empty());

    set_for_database(&mut db, "proxy", "opensesame://user:opensesame@");
    let mut app = db.session("app");
    let wrong = expect_error(&mut app, &embed_statement(1, "A text."));
    assert_eq!((wrong.code.as_str(), wrong.message.contains("chatbot_sync.proxy")), ("22023", true), "{wrong:?}");
    assert!(!format!("{wrong:?}").contains("opensesame"), "{wrong:?}");
}

#[test]
fn a_proxy_that_hangs_can_be_cancelled() {
    let (mut db, _mock) = database_with_mock();
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    set_for_database(&mut db, "proxy", &format!("http://{}", deaf.local_addr().unwrap()));
    let mut app = db.session("app");
    app.batch_execute(
        "SET chatbot_sync.sync_timeout = '1h'; SET chatbot_sync.connect_timeout = '1h'; SET statement_timeout = '50ms'",
    )
    .unwrap();
    assert_eq!(expect_error(&mut app, &embed_statement(1, "A text.")).code, "57014");
    // Reads to the end: the client has closed its socket.
    let _ = deaf.accept().unwrap().0.read_to_end(&mut Vec::new());
    app.batch_execute("RESET statement_timeout; SELECT chatbot_chunk('still here')").unwrap();
}
