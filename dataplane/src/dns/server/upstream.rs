//! Resolvers for tests, which speak real DNS and misbehave as told.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use hickory_proto::op::{Message, Metadata, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::dns::forward::{read_frame, write_frame};

/// How many addresses are far too many for UDP.
pub(super) const FLOOD: usize = 500;

/// What a resolver does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Behaviour {
    /// Answers each question with its own address.
    Answer,
    /// Never answers.
    Silent,
    /// Answers with this status.
    Status(ResponseCode),
    /// Answers each question with far too many addresses.
    Flood,
    /// By UDP, answers only after answers to what nobody asked.
    AfterForgeries,
}

/// A question that came.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) id: u16,
    pub(super) name: String,
    pub(super) client: SocketAddr,
    pub(super) tcp: bool,
}

/// One resolver.
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    seen: watch::Sender<Vec<Seen>>,
    tasks: JoinSet<()>,
}

impl Upstream {
    /// What came so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    /// Ends it; then nobody listens there.
    pub(super) async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }
}

/// Resolvers at addresses of their own and one port.
pub(super) async fn upstreams<const N: usize>(behaviours: [Behaviour; N]) -> [Upstream; N] {
    for _ in 0..100 {
        if let Some(sockets) = sockets(N).await {
            let mut started =
                behaviours.into_iter().zip(sockets).map(|(how, (udp, tcp))| start(how, udp, tcp));
            return std::array::from_fn(|_| started.next().unwrap());
        }
    }
    panic!("no port is free at {N} addresses");
}

async fn sockets(count: usize) -> Option<Vec<(UdpSocket, TcpListener)>> {
    let mut sockets = Vec::new();
    let mut port = 0;
    for last in 2..u8::try_from(count).unwrap() + 2 {
        let tcp = TcpListener::bind((Ipv4Addr::new(127, 0, 0, last), port)).await.ok()?;
        let udp = UdpSocket::bind(tcp.local_addr().unwrap()).await.ok()?;
        port = udp.local_addr().unwrap().port();
        sockets.push((udp, tcp));
    }
    Some(sockets)
}

fn start(behaviour: Behaviour, udp: UdpSocket, tcp: TcpListener) -> Upstream {
    let address = udp.local_addr().unwrap();
    let seen = watch::Sender::new(Vec::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(serve_udp(behaviour, udp, seen.clone()));
    tasks.spawn(serve_tcp(behaviour, tcp, seen.clone()));
    Upstream { address, seen, tasks }
}

async fn serve_udp(behaviour: Behaviour, socket: UdpSocket, seen: watch::Sender<Vec<Seen>>) {
    let mut buffer = [0; 4096];
    while let Ok((read, client)) = socket.recv_from(&mut buffer).await {
        let own = socket.local_addr().unwrap();
        let request = note(&buffer[..read], client, false, &seen);
        if matches!(behaviour, Behaviour::AfterForgeries) {
            for forged in forgeries(&request) {
                socket.send_to(&forged.to_vec().unwrap(), client).await.unwrap();
            }
            let other = UdpSocket::bind((own.ip(), 0)).await.unwrap();
            let elsewhere = reply(&request, IpAddr::V4(Ipv4Addr::BROADCAST));
            other.send_to(&elsewhere.to_vec().unwrap(), client).await.unwrap();
        }
        if let Some(answer) = answer(behaviour, &request, own.ip()) {
            socket.send_to(&answer, client).await.unwrap();
        }
    }
}

async fn serve_tcp(behaviour: Behaviour, listener: TcpListener, seen: watch::Sender<Vec<Seen>>) {
    let open = Arc::new(tokio::sync::Mutex::new(Vec::new()));
    while let Ok((mut stream, client)) = listener.accept().await {
        let own = stream.local_addr().unwrap().ip();
        let request = read_frame(&mut stream).await.unwrap();
        match answer(behaviour, &note(&request, client, true, &seen), own) {
            Some(answer) => write_frame(&mut stream, &answer).await.unwrap(),
            None => open.lock().await.push(stream),
        }
    }
}

fn note(bytes: &[u8], client: SocketAddr, tcp: bool, seen: &watch::Sender<Vec<Seen>>) -> Message {
    let request = Message::from_vec(bytes).unwrap();
    let name = request.queries[0].name.to_ascii();
    seen.send_modify(|seen| seen.push(Seen { id: request.id, name, client, tcp }));
    request
}

fn answer(behaviour: Behaviour, request: &Message, own: IpAddr) -> Option<Vec<u8>> {
    let answer = match behaviour {
        Behaviour::Silent => return None,
        Behaviour::Answer | Behaviour::AfterForgeries => reply(request, own),
        Behaviour::Flood => {
            let mut answer = reply(request, own);
            answer.answers = vec![answer.answers[0].clone(); FLOOD];
            answer
        }
        Behaviour::Status(code) => {
            let mut answer = reply(request, own);
            answer.answers.clear();
            answer.metadata.response_code = code;
            answer
        }
    };
    Some(answer.to_vec().unwrap())
}

fn reply(request: &Message, address: IpAddr) -> Message {
    let mut reply = Message::response(request.id, request.op_code);
    reply.metadata = Metadata::response_from_request(&request.metadata);
    reply.queries.clone_from(&request.queries);
    let IpAddr::V4(address) = address else { panic!("resolvers of tests have IPv4 addresses") };
    reply.add_answer(Record::from_rdata(request.queries[0].name.clone(), 60, RData::A(A(address))));
    reply
}

/// Answers that must not be taken: another id, another name, a question.
fn forgeries(request: &Message) -> [Message; 3] {
    let forged = reply(request, IpAddr::V4(Ipv4Addr::BROADCAST));
    let mut other_id = forged.clone();
    other_id.metadata.id ^= 1;
    let mut other_name = forged.clone();
    other_name.queries[0].name = Name::from_ascii("bank.example.").unwrap();
    let mut no_answer = forged;
    no_answer.metadata.message_type = hickory_proto::op::MessageType::Query;
    [other_id, other_name, no_answer]
}
