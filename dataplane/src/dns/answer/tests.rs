use hickory_proto::op::ResponseCode::{BADVERS, FormErr, NXDomain, NoError, NotImp, Refused, ServFail};
use hickory_proto::rr::rdata::opt::EdnsOption;
use proptest::prelude::*;

use super::*;
use crate::dns::names::Addresses;

fn names() -> Names {
    let v4 = |text: &str| Addresses { v4: vec![text.parse().unwrap()], v6: Vec::new() };
    let both = Addresses { v6: vec!["fd75:7273:6100::1".parse().unwrap()], ..v4("240.0.0.1") };
    let many = Addresses { v4: (0..100).map(|last| [10, 0, 0, last].into()).collect(), v6: Vec::new() };
    Names::new([
        ("redis.demo.mesh".into(), both),
        ("web.demo.mesh".into(), v4("240.0.0.2")),
        ("many.demo.mesh".into(), many),
    ])
}

fn request(name: &str, query_type: RecordType) -> Message {
    let mut request = Message::query();
    request.metadata.recursion_desired = true;
    request.add_query(Query::query(Name::from_ascii(name).unwrap(), query_type));
    request
}

fn verdict(request: &Message, transport: Transport) -> Verdict {
    answer(&request.to_vec().unwrap(), transport, &Zone::default(), &names())
}

#[track_caller]
fn over(request: &Message, transport: Transport) -> Message {
    let Verdict::Answer(bytes) = verdict(request, transport) else { panic!("no answer to {request}") };
    let reply = Message::from_vec(&bytes).unwrap();
    assert_eq!(reply.id, request.id);
    assert_eq!(reply.message_type, MessageType::Response);
    assert!(reply.recursion_desired);
    assert!(transport == Transport::Tcp || bytes.len() <= MAX_UDP.into());
    reply
}

#[track_caller]
fn ask(name: &str, query_type: RecordType) -> Message {
    over(&request(name, query_type), Transport::Udp)
}

fn values(reply: &Message) -> Vec<String> {
    reply.answers.iter().map(|record| record.data.to_string()).collect()
}

/// There is nothing, and it says for how long.
#[track_caller]
fn assert_negative(reply: &Message, code: ResponseCode) {
    assert_eq!((reply.response_code, reply.answers.len()), (code, 0));
    assert!(reply.authoritative);
    let [soa] = &reply.authorities[..] else { panic!("no SOA: {reply}") };
    let RData::SOA(data) = &soa.data else { panic!("no SOA: {reply}") };
    assert_eq!((soa.name.to_ascii().as_str(), soa.ttl, data.minimum), ("mesh.", 5, 5));
}

#[test]
fn a_name_has_the_addresses_of_the_type_asked() {
    let reply = ask("redis.demo.mesh.", RecordType::A);
    assert_eq!((reply.response_code, reply.authoritative), (NoError, true));
    assert_eq!((values(&reply), reply.answers[0].ttl), (vec!["240.0.0.1".into()], 5));
    assert!(reply.authorities.is_empty() && reply.recursion_available);
    assert_eq!(values(&ask("redis.demo.mesh.", RecordType::AAAA)), ["fd75:7273:6100::1"]);
    assert_eq!(values(&ask("redis.demo.mesh.", RecordType::ANY)), ["240.0.0.1", "fd75:7273:6100::1"]);
}

#[test]
fn the_question_keeps_its_case() {
    let reply = ask("ReDiS.dEmO.mEsH.", RecordType::A);
    assert_eq!(reply.queries[0].name.to_ascii(), "ReDiS.dEmO.mEsH.");
    assert_eq!(reply.answers[0].name.to_ascii(), "ReDiS.dEmO.mEsH.");
}

#[test]
fn a_known_name_without_such_records_is_empty_not_absent() {
    for query_type in [RecordType::AAAA, RecordType::TXT, RecordType::SRV, RecordType::Unknown(65)] {
        assert_negative(&ask("web.demo.mesh.", query_type), NoError);
    }
    assert_negative(&ask("demo.mesh.", RecordType::A), NoError);
    assert_negative(&ask("mesh.", RecordType::A), NoError);
}

#[test]
fn an_unknown_name_of_the_zone_is_absent_whatever_the_type() {
    for name in ["redsi.demo.mesh.", "x.redis.demo.mesh.", "other.mesh."] {
        for query_type in [RecordType::A, RecordType::AAAA, RecordType::MX] {
            assert_negative(&ask(name, query_type), NXDomain);
        }
    }
    let mut dotted = request("mesh.", RecordType::A);
    dotted.queries[0].name = Name::from_labels(["redis.demo", "mesh"].map(str::as_bytes)).unwrap();
    dotted.queries[0].name.set_fqdn(true);
    assert_negative(&over(&dotted, Transport::Udp), NXDomain);
}

#[test]
fn the_zone_has_a_start_of_authority() {
    let reply = ask("mesh.", RecordType::SOA);
    assert_eq!(values(&reply), ["mesh. hostmaster.mesh. 1 3600 600 86400 5"]);
    assert!(reply.authorities.is_empty());
}

#[test]
fn nothing_is_absent_before_the_table_is_known() {
    let bytes = request("redis.demo.mesh.", RecordType::A).to_vec().unwrap();
    let Verdict::Answer(bytes) = answer(&bytes, Transport::Udp, &Zone::default(), &Names::default()) else {
        panic!("no answer");
    };
    assert_eq!(Message::from_vec(&bytes).unwrap().response_code, ServFail);
}

#[test]
fn virtual_addresses_have_names_and_others_are_asked_elsewhere() {
    let reply = ask("1.0.0.240.in-addr.arpa.", RecordType::PTR);
    assert_eq!((values(&reply), reply.authoritative), (vec!["redis.demo.mesh.".into()], true));
    let v6 = Name::from("fd75:7273:6100::1".parse::<std::net::IpAddr>().unwrap());
    assert_eq!(values(&ask(&v6.to_ascii(), RecordType::PTR)), ["redis.demo.mesh."]);
    for other in ["1.0.0.10.in-addr.arpa.", "0.0.240.in-addr.arpa.", "9.0.0.240.in-addr.arpa."] {
        let verdict = verdict(&request(other, RecordType::PTR), Transport::Udp);
        assert!(matches!(verdict, Verdict::Forward(_)), "{other}");
    }
}

#[test]
fn names_outside_the_zone_are_asked_elsewhere() {
    for name in ["example.com.", "redis.demo.mesh.demo.svc.cluster.local.", "notmesh.", "mesh.example.", "."]
    {
        let verdict = verdict(&request(name, RecordType::A), Transport::Udp);
        assert!(matches!(&verdict, Verdict::Forward(query) if query.name.to_ascii() == name), "{name}");
    }
    let deep = Zone::new("Svc.Mesh", Duration::from_secs(1)).unwrap();
    let bytes = request("redis.demo.mesh.", RecordType::A).to_vec().unwrap();
    assert!(matches!(answer(&bytes, Transport::Udp, &deep, &names()), Verdict::Forward(_)));
}

#[test]
fn edns_is_answered_with_edns_and_only_then() {
    assert!(ask("redis.demo.mesh.", RecordType::A).edns.is_none());
    let mut asked = request("redis.demo.mesh.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(4096).set_dnssec_ok(true);
    edns.options_mut().insert(EdnsOption::Unknown(10, vec![1; 8])); // A cookie.
    asked.set_edns(edns);
    let reply = over(&asked, Transport::Udp);
    let edns = reply.edns.as_ref().unwrap();
    assert_eq!((edns.version(), edns.max_payload(), edns.flags().dnssec_ok), (0, MAX_UDP, true));
    assert!(edns.options().options.is_empty());
    assert_eq!(values(&reply), ["240.0.0.1"]);
}

#[test]
fn later_versions_of_edns_are_refused() {
    let mut asked = request("redis.demo.mesh.", RecordType::A);
    asked.set_edns({
        let mut edns = Edns::new();
        edns.set_version(1);
        edns
    });
    let reply = over(&asked, Transport::Udp);
    assert_eq!((reply.response_code.high(), reply.response_code.low()), (BADVERS.high(), BADVERS.low()));
    assert_eq!((reply.edns.as_ref().unwrap().version(), reply.answers.len()), (0, 0));
}

#[test]
fn what_does_not_fit_is_cut_and_says_so() {
    let plain = request("many.demo.mesh.", RecordType::A);
    let reply = over(&plain, Transport::Udp);
    let length = reply.to_vec().unwrap().len();
    assert!(reply.truncation && (400..=512).contains(&length), "{length}");
    let mut extended = plain.clone();
    let mut edns = Edns::new();
    edns.set_max_payload(1000);
    extended.set_edns(edns);
    let reply = over(&extended, Transport::Udp);
    let length = reply.to_vec().unwrap().len();
    assert!(reply.truncation && reply.edns.is_some() && (900..=1000).contains(&length), "{length}");
    let whole = over(&plain, Transport::Tcp);
    assert_eq!((whole.truncation, whole.answers.len()), (false, 100));
}

#[test]
fn other_classes_and_operations_are_refused() {
    let mut chaos = request("redis.demo.mesh.", RecordType::A);
    chaos.queries[0].query_class = DNSClass::CH;
    assert_eq!(over(&chaos, Transport::Udp).response_code, Refused);
    let mut update = request("redis.demo.mesh.", RecordType::A);
    update.metadata.op_code = OpCode::Update;
    assert_eq!(over(&update, Transport::Udp).response_code, NotImp);
    let mut response = request("redis.demo.mesh.", RecordType::A);
    response.metadata.message_type = MessageType::Response;
    assert_eq!(verdict(&response, Transport::Udp), Verdict::Drop);
}

#[test]
fn what_cannot_be_read_is_a_format_error() {
    let mut two = request("redis.demo.mesh.", RecordType::A);
    two.add_query(Query::query(Name::from_ascii("web.demo.mesh.").unwrap(), RecordType::A));
    assert_eq!(over(&two, Transport::Udp).response_code, FormErr);
    let mut none = two.clone();
    none.queries.clear();
    assert_eq!(over(&none, Transport::Udp).response_code, FormErr);
    let bytes = request("redis.demo.mesh.", RecordType::A).to_vec().unwrap();
    for length in 0..bytes.len() {
        match answer(&bytes[..length], Transport::Udp, &Zone::default(), &names()) {
            Verdict::Drop => assert!(length < HEADER, "{length}"),
            Verdict::Answer(reply) => {
                assert_eq!(Message::from_vec(&reply).unwrap().response_code, FormErr, "{length}");
            }
            Verdict::Forward(_) => panic!("half a request was passed on"),
        }
    }
}

#[test]
fn only_real_names_are_zones() {
    for text in ["mesh", "mesh.", "svc.mesh", "MESH"] {
        assert!(Zone::new(text, Duration::ZERO).is_ok(), "{text}");
    }
    for text in ["", ".", "a..b", &"a".repeat(64)] {
        assert!(Zone::new(text, Duration::ZERO).is_err(), "{text}");
    }
}

/// Bytes that are nearly a request.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>());
    let name = prop::sample::select(vec![
        "redis.demo.mesh.",
        "many.demo.mesh.",
        "example.com.",
        "1.0.0.240.in-addr.arpa.",
    ]);
    (name, any::<u16>(), any::<bool>(), prop::collection::vec(change, 0..6)).prop_map(
        |(name, query_type, edns, changes)| {
            let mut message = request(name, RecordType::from(query_type));
            if edns {
                message.set_edns(Edns::new());
            }
            let mut bytes = message.to_vec().unwrap();
            for (index, byte) in changes {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
            bytes
        },
    )
}

proptest! {
    #[test]
    fn no_bytes_harm(bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..600), mutated()], tcp: bool) {
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        if let Verdict::Answer(reply) = answer(&bytes, transport, &Zone::default(), &names()) {
            let reply = Message::from_vec(&reply).unwrap();
            prop_assert_eq!(reply.message_type, MessageType::Response);
            prop_assert_eq!(reply.id.to_be_bytes(), [bytes[0], bytes[1]]);
        }
        failure(&bytes);
        truncated(&bytes);
    }
}
