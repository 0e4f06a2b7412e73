//! Real sockets on loopback: each kind of probe against applications that are well and that are not.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tonic_health::ServingStatus;

use super::*;
use crate::health::Probes;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Runs the probe of this JSON.
async fn probe(json: &str) -> Result<(), String> {
    let probes: Probes = format!("{{\"web/liveness\": {json}}}").parse().unwrap();
    check(probes.get("web/liveness").unwrap().unwrap(), HERE).await
}

/// What an application answers to a path.
type Answer = fn(&str, u16) -> String;

/// An application: its port, and the heads of the requests that it got.
struct Application {
    port: u16,
    heads: mpsc::UnboundedReceiver<String>,
}

impl Application {
    async fn start(answer: Answer) -> Self {
        Self::start_behind(None, answer).await
    }

    async fn start_behind(tls: Option<TlsAcceptor>, answer: Answer) -> Self {
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, heads) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = match &tls {
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => serve(stream, port, answer, &sender).await,
                        Err(_) => None,
                    },
                    None => serve(stream, port, answer, &sender).await,
                };
            }
        });
        Self { port, heads }
    }

    async fn get(&self, path: &str) -> Result<(), String> {
        self.get_with(path, "").await
    }

    async fn get_with(&self, path: &str, more: &str) -> Result<(), String> {
        let port = self.port;
        probe(&format!(
            "{{\"http\": {{\"port\": {port}, \"path\": \"{path}\"{more}}}, \"timeoutSeconds\": 10}}"
        ))
        .await
    }

    fn head(&mut self) -> String {
        self.heads.try_recv().unwrap()
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    port: u16,
    answer: Answer,
    heads: &mpsc::UnboundedSender<String>,
) -> Option<()> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(char::from(stream.read_u8().await.ok()?));
        if !head.starts_with('G') {
            return None; // No GET: the connection ends.
        }
    }
    let response = answer(head.split(' ').nth(1)?, port);
    heads.send(head).ok()?;
    stream.write_all(response.as_bytes()).await.ok()?;
    stream.flush().await.ok()
}

fn status(code: u16) -> String {
    format!("HTTP/1.1 {code} x\r\nContent-Length: 0\r\n\r\n")
}

fn to(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
}

#[tokio::test]
async fn http_goes_by_the_status() {
    let application = Application::start(|path, _| status(path[1..].parse().unwrap())).await;
    for good in ["/200", "/204", "/304", "/399", "/302", "200"] {
        assert_eq!(application.get(good).await, Ok(()), "{good}");
    }
    for bad in ["/400", "/404", "/500", "/503"] {
        let error = application.get(bad).await.unwrap_err();
        assert!(error.ends_with(&bad[1..]), "{error}");
    }
}

#[tokio::test]
async fn redirects_are_followed_on_this_host_only() {
    let application = Application::start(|path, port| match path {
        "/bad" => to("/broken"),
        "/good" => to("well?x=1"),
        "/whole" => to(&format!("http://127.0.0.1:{port}/well?x=1")),
        "/elsewhere" => to("https://sign-in.example/"),
        "/circle" => to("/circle"),
        "/odd" => to("ftp://127.0.0.1/"),
        "/well?x=1" => status(200),
        _ => status(500),
    })
    .await;
    for good in ["/good", "/whole", "/elsewhere"] {
        assert_eq!(application.get(good).await, Ok(()), "{good}");
    }
    for bad in ["/bad", "/circle", "/odd"] {
        assert!(application.get(bad).await.is_err(), "{bad}");
    }
}

#[tokio::test]
async fn http_says_what_the_probe_says() {
    let mut application = Application::start(|_, _| status(200)).await;
    let port = application.port;
    application.get("/a b?c=d#e").await.unwrap();
    let head = application.head();
    assert!(head.starts_with("GET /a%20b?c=d HTTP/1.1\r\n"), "{head}");
    for line in
        [&format!("host: 127.0.0.1:{port}"), "user-agent: kube-probe/", "accept: */*", "connection: close"]
    {
        assert!(head.contains(&format!("\r\n{line}")), "{head}");
    }
    application.get_with("/", ", \"host\": \"shop.example\"").await.unwrap();
    assert!(application.head().contains(&format!("\r\nhost: shop.example:{port}\r\n")));
    let headers = r#"{"name": "Host", "value": "own.example"}, {"name": "User-Agent", "value": "me"},
        {"name": "X-Two", "value": "1"}, {"name": "X-Two", "value": "2"}"#;
    application
        .get_with("/", &format!(", \"host\": \"shop.example\", \"headers\": [{headers}]"))
        .await
        .unwrap();
    let head = application.head();
    for line in ["host: own.example\r\n", "user-agent: me\r\n", "x-two: 1\r\nx-two: 2\r\n"] {
        assert!(head.contains(&format!("\r\n{line}")), "{head}");
    }
    assert!(!head.contains("shop.example") && !head.contains("kube-probe"), "{head}");
}

#[tokio::test]
async fn any_certificate_will_do() {
    let own = rcgen::generate_simple_self_signed(vec!["other.example".into()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()).into();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let tls = TlsAcceptor::from(Arc::new(config));
    let answer: Answer = |path, _| status(if path == "/well" { 200 } else { 500 });
    let application = Application::start_behind(Some(tls), answer).await;
    let https = ", \"scheme\": \"HTTPS\"";
    assert_eq!(application.get_with("/well", https).await, Ok(()));
    let named = format!("{https}, \"host\": \"shop.example\"");
    assert_eq!(application.get_with("/well", &named).await, Ok(()));
    assert!(application.get_with("/ill", https).await.is_err());
    assert!(application.get("/well").await.is_err());
    let plain = Application::start(|_, _| status(200)).await;
    assert!(plain.get_with("/well", https).await.is_err());
}

#[tokio::test]
async fn tcp_goes_by_the_connection() {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(probe(&format!("{{\"tcp\": {{\"port\": {port}}}}}")).await, Ok(()));
    drop(listener);
    let error = probe(&format!("{{\"tcp\": {{\"port\": {port}}}}}")).await.unwrap_err();
    assert!(error.starts_with(&format!("cannot connect to 127.0.0.1:{port}: ")), "{error}");
}

#[tokio::test]
async fn grpc_goes_by_the_health_protocol() {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("shop", ServingStatus::Serving).await;
    reporter.set_service_status("ill", ServingStatus::NotServing).await;
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    let call = async |service: &str| {
        probe(&format!(
            "{{\"grpc\": {{\"port\": {port}, \"service\": \"{service}\"}}, \"timeoutSeconds\": 10}}"
        ))
        .await
    };
    assert_eq!((call("").await, call("shop").await), (Ok(()), Ok(())));
    assert_eq!(call("ill").await, Err("the service answered NotServing".into()));
    assert!(call("nobody").await.unwrap_err().starts_with("the call failed: "));
}

#[tokio::test]
async fn grpc_needs_the_health_protocol() {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let none = tonic::service::Routes::default();
    let server =
        tokio::spawn(tonic::transport::Server::builder().add_routes(none).serve_with_incoming(incoming));
    let json = format!("{{\"grpc\": {{\"port\": {port}}}, \"timeoutSeconds\": 10}}");
    assert_eq!(probe(&json).await, Err("the server does not know grpc.health.v1.Health".into()));
    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());
    assert!(probe(&json).await.unwrap_err().contains(&format!("127.0.0.1:{port}")));
    let web = Application::start(|_, _| status(200)).await;
    assert!(probe(&format!("{{\"grpc\": {{\"port\": {}}}}}", web.port)).await.is_err());
}

#[tokio::test]
async fn who_is_slow_has_failed() {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for action in ["http", "grpc"] {
        let probes: Probes =
            format!("{{\"web/liveness\": {{\"{action}\": {{\"port\": {port}}}}}}}").parse().unwrap();
        let slow = Probe {
            timeout: Duration::from_millis(100),
            ..probes.get("web/liveness").unwrap().unwrap().clone()
        };
        assert_eq!(check(&slow, HERE).await, Err("no answer within 100ms".into()));
    }
}
