//! Models and applications for tests: what the proxy is to do, and who answers behind it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use ursa_envoy::{Interner, endpoint_resource, translate};
use ursa_model::{
    Balancer, Destination, DestinationId, Endpoint, EndpointSet, EndpointState, Inbound, InboundTls,
    Outbound, Protocol, ProxyId, ProxyModel, Share,
};

use crate::plane::Resources;
use crate::wait::eventually;

pub(crate) const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A free port below those that the system hands out by itself.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 10_000).unwrap();
    loop {
        let port = 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        if std::net::TcpListener::bind((LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// An application that says its name and then repeats what it hears.
pub(crate) async fn echo(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                if writer.write_all(name.as_bytes()).await.is_ok() {
                    let _ = tokio::io::copy(&mut reader, &mut writer).await;
                }
            });
        }
    });
    address
}

/// An application that answers each HTTP request with 200.
pub(crate) async fn http() -> SocketAddr {
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut stream = BufStream::new(stream);
                let mut line = String::new();
                while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                    if line == "\r\n" {
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                        if stream.write_all(answer).await.is_err() || stream.flush().await.is_err() {
                            return;
                        }
                    }
                    line.clear();
                }
            });
        }
    });
    address
}

/// Who answers at a port, if anybody, after repeating a word.
pub(crate) async fn talk(port: u16) -> Option<String> {
    let talk = async {
        let mut stream = TcpStream::connect((LOCALHOST, port)).await.ok()?;
        stream.write_all(b"+word").await.ok()?;
        let mut heard = String::new();
        let mut buffer = [0; 64];
        loop {
            let read = stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
            heard.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
            if let Some(name) = heard.strip_suffix("+word") {
                return Some(name.to_owned());
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(2), talk).await.ok().flatten()
}

/// Waits until this application answers at a port.
pub(crate) async fn answers(port: u16, name: &str) {
    eventually(&format!("{name} answers at port {port}"), async || {
        (talk(port).await.as_deref() == Some(name)).then_some(())
    })
    .await;
}

/// What a proxy is to do.
pub(crate) struct Model {
    model: ProxyModel,
    endpoints: Vec<EndpointSet>,
}

impl Model {
    pub(crate) fn new() -> Self {
        let model = ProxyModel {
            capture: None,
            id: ProxyId::new("default", "web-1"),
            zone: "east".into(),
            inbounds: Vec::new(),
            outbounds: Vec::new(),
            destinations: Vec::new(),
            ingress_routes: Vec::new(),
            ingress_listener: None,
        };
        Self { model, endpoints: Vec::new() }
    }

    /// Calls to a local port reach a service, whose one instance this is.
    pub(crate) fn outbound(self, port: u16, service: &str, instance: SocketAddr) -> Self {
        self.outbound_at(LOCALHOST, port, service, instance, Balancer::RoundRobin)
    }

    pub(crate) fn outbound_at(
        mut self,
        address: IpAddr,
        port: u16,
        service: &str,
        instance: SocketAddr,
        balancer: Balancer,
    ) -> Self {
        let id =
            DestinationId { mesh: "default".into(), service: service.into(), subset: Default::default() };
        self.model.outbounds.push(Arc::new(Outbound {
            address,
            port,
            service: service.into(),
            protocol: Protocol::Tcp,
            shares: vec![Share { destination: id.clone(), weight: 1 }],
        }));
        self.model.destinations.push(Arc::new(Destination {
            id: id.clone(),
            protocol: Protocol::Tcp,
            balancer,
            tls: None,
        }));
        self.endpoints.push(EndpointSet {
            destination: id,
            endpoints: vec![Endpoint {
                priority: 0,
                zone: "east".into(),
                address: instance.ip(),
                port: instance.port(),
                weight: 1,
                state: EndpointState::Healthy,
                instance: None,
            }],
        });
        self
    }

    /// Callers reach the application at a port.
    pub(crate) fn inbound(self, port: u16, application: SocketAddr, tls: Option<InboundTls>) -> Self {
        self.inbound_of(Protocol::Tcp, port, application, tls)
    }

    pub(crate) fn inbound_of(
        mut self,
        protocol: Protocol,
        port: u16,
        application: SocketAddr,
        tls: Option<InboundTls>,
    ) -> Self {
        self.model.inbounds.push(Inbound {
            address: LOCALHOST,
            port,
            app_address: application.ip(),
            app_port: application.port(),
            service: "web".into(),
            protocol,
            tls,
        });
        self
    }

    /// As the control plane sends it.
    pub(crate) fn resources(&self) -> Resources {
        let mut interner = Interner::default();
        let mut set: Vec<_> = translate(&self.model, &mut interner).into_values().collect();
        set.extend(
            self.endpoints
                .iter()
                .map(|endpoints| endpoint_resource(&endpoints.destination.name(), endpoints, &mut interner)),
        );
        set.into_iter()
            .map(|resource| {
                let key = (resource.key.resource_type, resource.key.name.clone());
                (key, (resource.version.clone(), resource.body.clone()))
            })
            .collect()
    }
}
