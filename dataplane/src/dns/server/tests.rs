//! Real sockets on loopback, and resolvers that are part of the test.

use std::net::Ipv4Addr;
use std::time::Duration;

use hickory_proto::op::ResponseCode::{FormErr, NXDomain, NoError, Refused, ServFail};
use hickory_proto::op::{Edns, Message, MessageType, Query};
use hickory_proto::rr::{Name, RecordType};
use tempfile::NamedTempFile;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;
use crate::dns::forward::{read_frame, write_frame};
use crate::dns::names::Addresses;
use crate::dns::server::upstream::{Behaviour, FLOOD, Upstream, upstreams};

const SOON: Duration = Duration::from_secs(20);

/// A server with a table, and the file with its resolvers.
struct World {
    addresses: Vec<SocketAddr>,
    file: NamedTempFile,
    _life: tokio_util::sync::DropGuard,
}

impl World {
    async fn new(resolvers: &[&Upstream]) -> Self {
        let file = NamedTempFile::new().unwrap();
        let settings = Settings {
            port: 0,
            resolv_conf: file.path().into(),
            resolver_port: resolvers.first().map_or(1, |upstream| upstream.address.port()),
            patience: Duration::from_millis(50),
            give_up: Duration::from_secs(2),
            ..Settings::default()
        };
        let server = Server::bind(settings).await.unwrap();
        let addresses = server.addresses();
        let shutdown = CancellationToken::new();
        let life = shutdown.clone().drop_guard();
        let names = watch::Sender::new(Arc::new(names()));
        tokio::spawn(async move {
            server.run(names.subscribe(), shutdown).await;
            drop(names);
        });
        let world = Self { addresses, file, _life: life };
        world.resolve_by(resolvers);
        world
    }

    fn resolve_by(&self, resolvers: &[&Upstream]) {
        let lines = resolvers.iter().map(|upstream| format!("nameserver {}\n", upstream.address.ip()));
        std::fs::write(self.file.path(), lines.collect::<String>()).unwrap();
    }

    async fn udp(&self, request: &Message) -> Message {
        let client = Client::new(self.addresses[0]).await;
        client.send(request).await;
        client.receive().await
    }

    async fn tcp(&self, request: &Message) -> Message {
        let mut stream = TcpStream::connect(self.addresses[0]).await.unwrap();
        write_frame(&mut stream, &request.to_vec().unwrap()).await.unwrap();
        let answer = timeout(SOON, read_frame(&mut stream)).await.unwrap().unwrap();
        Message::from_vec(&answer).unwrap()
    }
}

/// A UDP socket of a client.
struct Client(UdpSocket);

impl Client {
    async fn new(server: SocketAddr) -> Self {
        let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).await.unwrap();
        socket.connect(server).await.unwrap();
        Self(socket)
    }

    async fn send(&self, request: &Message) {
        self.0.send(&request.to_vec().unwrap()).await.unwrap();
    }

    async fn receive(&self) -> Message {
        let mut buffer = [0; 4096];
        let read = timeout(SOON, self.0.recv(&mut buffer)).await.expect("an answer").unwrap();
        Message::from_vec(&buffer[..read]).unwrap()
    }
}

fn names() -> Names {
    let redis = Addresses { v4: vec![Ipv4Addr::new(240, 0, 0, 1)], v6: vec!["fd00::1".parse().unwrap()] };
    let many = Addresses { v4: (0..100).map(|last| [10, 0, 0, last].into()).collect(), v6: Vec::new() };
    Names::new([("redis.demo.mesh".into(), redis), ("many.demo.mesh".into(), many)])
}

fn request(name: &str, query_type: RecordType) -> Message {
    let mut request = Message::query();
    request.metadata.recursion_desired = true;
    request.add_query(Query::query(Name::from_ascii(name).unwrap(), query_type));
    request
}

fn values(reply: &Message) -> Vec<String> {
    reply.answers.iter().map(|record| record.data.to_string()).collect()
}

#[tokio::test]
async fn the_mesh_is_answered_at_every_address_by_udp_and_tcp() {
    let mut world = World::new(&[]).await;
    assert!(!world.addresses.is_empty());
    for address in world.addresses.clone() {
        world.addresses = vec![address];
        let mut asked = request("Redis.demo.mesh.", RecordType::A);
        for edns in [false, true] {
            if edns {
                asked.set_edns(Edns::new());
            }
            for reply in [world.udp(&asked).await, world.tcp(&asked).await] {
                assert_eq!((reply.id, &reply.queries), (asked.id, &asked.queries));
                assert_eq!((values(&reply), reply.edns.is_some()), (vec!["240.0.0.1".into()], edns));
            }
        }
        let v6 = request("redis.demo.mesh.", RecordType::AAAA);
        assert_eq!(values(&world.udp(&v6).await), ["fd00::1"]);
        assert_eq!(values(&world.tcp(&v6).await), ["fd00::1"]);
        let absent = request("nobody.demo.mesh.", RecordType::A);
        assert_eq!(world.udp(&absent).await.response_code, NXDomain);
        let empty = request("many.demo.mesh.", RecordType::AAAA);
        let reply = world.udp(&empty).await;
        assert_eq!((reply.response_code, reply.authorities.len()), (NoError, 1));
    }
}

#[tokio::test]
async fn what_udp_cuts_tcp_gives_whole() {
    let world = World::new(&[]).await;
    let asked = request("many.demo.mesh.", RecordType::A);
    let cut = world.udp(&asked).await;
    assert!(cut.truncation && cut.answers.len() < 100);
    let whole = world.tcp(&asked).await;
    assert_eq!((whole.truncation, whole.answers.len()), (false, 100));
}

#[tokio::test]
async fn other_names_are_asked_of_the_resolver_the_way_they_came() {
    let [upstream] = upstreams([Behaviour::Answer]).await;
    let world = World::new(&[&upstream]).await;
    let asked = request("Example.com.", RecordType::A);
    for reply in [world.udp(&asked).await, world.tcp(&asked).await] {
        assert_eq!((reply.id, &reply.queries), (asked.id, &asked.queries));
        assert_eq!(values(&reply), [upstream.address.ip().to_string()]);
    }
    let mut ways: Vec<_> = upstream.seen().iter().map(|seen| seen.tcp).collect();
    ways.dedup(); // A slow answer makes the agent ask again.
    assert_eq!(ways, [false, true]);
    assert!(upstream.seen().iter().all(|seen| seen.name == "Example.com."));
}

#[tokio::test]
async fn ids_and_ports_of_questions_cannot_be_foreseen() {
    let [upstream] = upstreams([Behaviour::Answer]).await;
    let world = World::new(&[&upstream]).await;
    let asked = request("example.com.", RecordType::A);
    for _ in 0..4 {
        world.udp(&asked).await;
    }
    let seen = upstream.seen();
    assert!(seen.len() >= 4);
    assert!(seen[1..].iter().any(|other| other.id != seen[0].id));
    assert!(seen[1..].iter().any(|other| other.client.port() != seen[0].client.port()));
}

#[tokio::test]
async fn after_a_silent_resolver_the_next_is_asked() {
    let [silent, upstream] = upstreams([Behaviour::Silent, Behaviour::Answer]).await;
    let world = World::new(&[&silent, &upstream]).await;
    let asked = request("example.com.", RecordType::A);
    for reply in [world.udp(&asked).await, world.tcp(&asked).await] {
        assert_eq!(values(&reply), [upstream.address.ip().to_string()]);
    }
    let asked = silent.seen();
    assert!(asked.iter().any(|seen| seen.tcp) && asked.iter().any(|seen| !seen.tcp));
}

#[tokio::test]
async fn a_resolver_that_cannot_answer_is_not_the_last_word() {
    let [failing, upstream] = upstreams([Behaviour::Status(ServFail), Behaviour::Answer]).await;
    let asked = request("example.com.", RecordType::A);
    let world = World::new(&[&failing, &upstream]).await;
    assert_eq!(values(&world.udp(&asked).await), [upstream.address.ip().to_string()]);
    let [refusing] = upstreams([Behaviour::Status(Refused)]).await;
    let world = World::new(&[&refusing]).await;
    assert_eq!(world.udp(&asked).await.response_code, Refused);
}

#[tokio::test]
async fn without_an_answer_the_client_is_told() {
    let asked = request("example.com.", RecordType::A);
    let world = World::new(&[]).await;
    assert_eq!(world.udp(&asked).await.response_code, ServFail);
    let [mut gone] = upstreams([Behaviour::Answer]).await;
    gone.stop().await;
    let world = World::new(&[&gone]).await;
    let mut extended = asked.clone();
    extended.set_edns(Edns::new());
    for reply in [world.udp(&extended).await, world.tcp(&extended).await] {
        assert_eq!((reply.id, reply.response_code), (asked.id, ServFail));
        assert!(reply.edns.is_some());
    }
}

#[tokio::test]
async fn answers_to_other_questions_are_not_taken() {
    let [upstream] = upstreams([Behaviour::AfterForgeries]).await;
    let world = World::new(&[&upstream]).await;
    let reply = world.udp(&request("example.com.", RecordType::A)).await;
    assert_eq!(values(&reply), [upstream.address.ip().to_string()]);
}

#[tokio::test]
async fn what_is_too_large_for_udp_comes_by_tcp() {
    let [upstream] = upstreams([Behaviour::Flood]).await;
    let world = World::new(&[&upstream]).await;
    let asked = request("example.com.", RecordType::A);
    let cut = world.udp(&asked).await;
    assert_eq!((cut.truncation, cut.answers.len(), &cut.queries), (true, 0, &asked.queries));
    let whole = world.tcp(&asked).await;
    assert_eq!((whole.truncation, whole.answers.len()), (false, FLOOD));
}

#[tokio::test]
async fn search_paths_lead_to_the_mesh() {
    let [upstream] = upstreams([Behaviour::Status(NXDomain)]).await;
    let world = World::new(&[&upstream]).await;
    // As glibc and musl do with `ndots:5`: both types at once on one socket, for each name in turn.
    let client = Client::new(world.addresses[0]).await;
    for suffix in ["demo.svc.cluster.local.", "svc.cluster.local.", "cluster.local.", ""] {
        let name = format!("redis.demo.mesh.{suffix}");
        let both = [RecordType::A, RecordType::AAAA].map(|query_type| request(&name, query_type));
        for asked in &both {
            client.send(asked).await;
        }
        for _ in &both {
            let reply = client.receive().await;
            let asked = both.iter().find(|asked| asked.id == reply.id).unwrap();
            assert_eq!(reply.queries, asked.queries);
            let expected = if suffix.is_empty() { (NoError, 1) } else { (NXDomain, 0) };
            assert_eq!((reply.response_code, reply.answers.len()), expected, "{name}");
        }
    }
    assert!(upstream.seen().iter().all(|seen| seen.name.ends_with("cluster.local.")));
}

#[tokio::test]
async fn resolvers_follow_their_file() {
    let [first, second] = upstreams([Behaviour::Answer, Behaviour::Answer]).await;
    let world = World::new(&[&first]).await;
    let asked = request("example.com.", RecordType::A);
    assert_eq!(values(&world.udp(&asked).await), [first.address.ip().to_string()]);
    world.resolve_by(&[&second]);
    let changed = async {
        while values(&world.udp(&asked).await) != [second.address.ip().to_string()] {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, changed).await.expect("the other resolver is asked");
    std::fs::remove_file(world.file.path()).unwrap();
    assert_eq!(values(&world.udp(&asked).await), [second.address.ip().to_string()]);
}

#[tokio::test]
async fn who_waits_for_a_resolver_holds_up_nobody() {
    let [silent] = upstreams([Behaviour::Silent]).await;
    let world = World::new(&[&silent]).await;
    let client = Client::new(world.addresses[0]).await;
    let open = 100;
    for _ in 0..open {
        client.send(&request("example.com.", RecordType::A)).await;
    }
    client.send(&request("redis.demo.mesh.", RecordType::A)).await;
    assert_eq!(values(&client.receive().await), ["240.0.0.1"]);
    for _ in 0..open {
        assert_eq!(client.receive().await.response_code, ServFail);
    }
}

#[tokio::test]
async fn several_requests_come_on_one_connection() {
    let world = World::new(&[]).await;
    let mut stream = TcpStream::connect(world.addresses[0]).await.unwrap();
    let both = [RecordType::A, RecordType::AAAA].map(|query_type| request("redis.demo.mesh.", query_type));
    for asked in &both {
        write_frame(&mut stream, &asked.to_vec().unwrap()).await.unwrap();
    }
    for asked in &both {
        let answer = timeout(SOON, read_frame(&mut stream)).await.unwrap().unwrap();
        assert_eq!(Message::from_vec(&answer).unwrap().id, asked.id);
    }
}

#[tokio::test]
async fn rubbish_harms_nobody() {
    let world = World::new(&[]).await;
    let client = Client::new(world.addresses[0]).await;
    for rubbish in [&b""[..], b"\0", &[0xff; 600], b"GET / HTTP/1.1\r\n\r\n"] {
        client.0.send(rubbish).await.unwrap();
        let mut stream = TcpStream::connect(world.addresses[0]).await.unwrap();
        let _ = write_frame(&mut stream, rubbish).await;
    }
    client.send(&request("redis.demo.mesh.", RecordType::A)).await;
    let mut reply = client.receive().await;
    while reply.response_code == FormErr || reply.queries.is_empty() {
        reply = client.receive().await;
    }
    assert_eq!((values(&reply), reply.message_type), (vec!["240.0.0.1".into()], MessageType::Response));
}

#[tokio::test]
async fn without_ipv6_it_listens_all_the_same() {
    let nowhere = "2001:db8::1".parse().unwrap();
    let settings =
        Settings { listen: vec![Ipv4Addr::LOCALHOST.into(), nowhere], port: 0, ..Settings::default() };
    let server = Server::bind(settings).await.unwrap();
    let [SocketAddr::V4(address)] = server.addresses()[..] else { panic!("{server:?}") };
    let settings =
        Settings { listen: vec![Ipv4Addr::LOCALHOST.into()], port: address.port(), ..Settings::default() };
    let error = Server::bind(settings).await.unwrap_err().to_string();
    assert!(error.contains(&format!("127.0.0.1 port {}", address.port())), "{error}");
}
