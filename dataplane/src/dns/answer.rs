//! What to do with a request: answer it, pass it on, or drop it.
//!
//! Invariant: every request that has a whole header gets an answer, unless it is itself an answer.
//! Sources: RFC 1035, 2308 (negative answers), 6891 (EDNS), 8020 (names above names).

use std::time::Duration;

use hickory_proto::op::{Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use crate::dns::names::{Found, Names};

/// What an answer by UDP may hold where the client allows it: no fragments on any usual link.
const MAX_UDP: u16 = 1232;

/// What a client takes by UDP that does not say.
const PLAIN_UDP: u16 = 512;

const HEADER: usize = 12;

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// By UDP.
    Udp,
    /// By TCP.
    Tcp,
}

/// The zone whose names are the mesh's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    name: Name,
    ttl: u32,
}

/// Why a text names no zone.
#[derive(Debug, thiserror::Error)]
#[error("{name:?} is no DNS zone: {reason}")]
pub struct ParseZoneError {
    name: String,
    reason: String,
}

impl Zone {
    /// The zone of this name, whose answers, also that there is none, hold for this time.
    pub fn new(name: &str, ttl: Duration) -> Result<Self, ParseZoneError> {
        let refused = |reason: String| ParseZoneError { name: name.chars().take(80).collect(), reason };
        let mut parsed = Name::from_ascii(name).map_err(|error| refused(error.to_string()))?.to_lowercase();
        parsed.set_fqdn(true);
        if parsed.is_root() {
            return Err(refused("the root is not the mesh's".into()));
        }
        Ok(Self { name: parsed, ttl: u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX) })
    }

    fn record(&self, name: &Name, data: RData) -> Record {
        Record::from_rdata(name.clone(), self.ttl, data)
    }

    /// What says for how long there is nothing.
    fn authority(&self) -> Record {
        let contact = self.name.prepend_label("hostmaster").unwrap_or_else(|_| self.name.clone());
        let soa = SOA::new(self.name.clone(), contact, 1, 3600, 600, 86400, self.ttl);
        self.record(&self.name, RData::SOA(soa))
    }
}

impl Default for Zone {
    /// `mesh`, for 5 seconds.
    fn default() -> Self {
        Self::new("mesh", Duration::from_secs(5)).expect("a plain label is a zone")
    }
}

/// What to do with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send this back.
    Answer(Vec<u8>),
    /// Ask others; this is the question.
    Forward(Query),
    /// Say nothing.
    Drop,
}

/// Decides on a request.
pub fn answer(request: &[u8], transport: Transport, zone: &Zone, names: &Names) -> Verdict {
    let Ok(header) = Header::read(&mut BinDecoder::new(request)) else { return Verdict::Drop };
    if header.message_type == MessageType::Response {
        return Verdict::Drop;
    }
    if header.op_code != OpCode::Query {
        return refuse(request, ResponseCode::NotImp);
    }
    let Some(query) = question(request) else { return refuse(request, ResponseCode::FormErr) };
    let ours = zone.name.zone_of(&query.name);
    let reverse = if ours { None } else { named(&query, names) };
    if !ours && reverse.is_none() {
        return Verdict::Forward(query);
    }
    let Ok(request_message) = Message::from_vec(request) else {
        return refuse(request, ResponseCode::FormErr);
    };
    let mut reply = reply(&request_message);
    if request_message.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        reply.metadata.response_code = ResponseCode::BADVERS;
    } else if !matches!(query.query_class, DNSClass::IN | DNSClass::ANY) {
        reply.metadata.response_code = ResponseCode::Refused;
    } else if let Some(name) = reverse {
        reply.metadata.authoritative = true;
        reply.add_answer(zone.record(&query.name, RData::PTR(PTR(name))));
    } else {
        resolve(&mut reply, &query, zone, names);
    }
    encode(reply, limit(&request_message, transport)).map_or(Verdict::Drop, Verdict::Answer)
}

/// The one question of a request or an answer.
pub fn question(message: &[u8]) -> Option<Query> {
    let mut decoder = BinDecoder::new(message);
    let header = Header::read(&mut decoder).ok()?;
    (header.counts.queries == 1).then(|| Query::read(&mut decoder).ok()).flatten()
}

/// Says that nobody answered.
pub fn failure(request: &[u8]) -> Option<Vec<u8>> {
    match Message::from_vec(request) {
        Ok(message) => {
            let mut reply = reply(&message);
            reply.metadata.response_code = ResponseCode::ServFail;
            encode(reply, PLAIN_UDP)
        }
        Err(_) => bare(request, ResponseCode::ServFail),
    }
}

/// Says that the answer is to be had by TCP.
pub fn truncated(request: &[u8]) -> Option<Vec<u8>> {
    let mut reply = reply(&Message::from_vec(request).ok()?);
    reply.metadata.truncation = true;
    encode(reply, PLAIN_UDP)
}

fn refuse(request: &[u8], code: ResponseCode) -> Verdict {
    bare(request, code).map_or(Verdict::Drop, Verdict::Answer)
}

/// An answer to what cannot be read: the header alone.
fn bare(request: &[u8], code: ResponseCode) -> Option<Vec<u8>> {
    let mut header = <[u8; HEADER]>::try_from(request.get(..HEADER)?).ok()?;
    header[2] = 0x80 | header[2] & 0x79; // An answer; operation and "recursion desired" stay.
    header[3] = code.low();
    header[4..].fill(0);
    Some(header.to_vec())
}

fn reply(request: &Message) -> Message {
    let mut reply = Message::response(request.id, request.op_code);
    reply.metadata = Metadata::response_from_request(&request.metadata);
    reply.metadata.recursion_available = true;
    reply.queries.clone_from(&request.queries);
    reply.edns = request.edns.as_ref().map(|asked| {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_UDP).set_dnssec_ok(asked.flags().dnssec_ok);
        edns
    });
    reply
}

/// Fills in what is known of a name of the zone.
fn resolve(reply: &mut Message, query: &Query, zone: &Zone, names: &Names) {
    if !names.is_known() {
        reply.metadata.response_code = ResponseCode::ServFail;
        return;
    }
    reply.metadata.authoritative = true;
    let found = key(&query.name).map_or(Found::Nothing, |key| names.find(&key));
    let wants = |of: RecordType| query.query_type == of || query.query_type == RecordType::ANY;
    let apex = query.name == zone.name;
    match found {
        Found::Addresses(addresses) => {
            if wants(RecordType::A) {
                let records = addresses.v4.iter().map(|ip| zone.record(&query.name, RData::A(A(*ip))));
                reply.answers.extend(records);
            }
            if wants(RecordType::AAAA) {
                let records = addresses.v6.iter().map(|ip| zone.record(&query.name, RData::AAAA(AAAA(*ip))));
                reply.answers.extend(records);
            }
        }
        Found::Parent => {}
        Found::Nothing if apex => {}
        Found::Nothing => reply.metadata.response_code = ResponseCode::NXDomain,
    }
    if apex && wants(RecordType::SOA) {
        reply.answers.push(zone.authority());
    }
    if reply.answers.is_empty() {
        reply.authorities.push(zone.authority());
    }
}

/// As the table spells it; `None` if no table can.
fn key(name: &Name) -> Option<String> {
    let mut key = String::with_capacity(name.len());
    for label in name {
        if !label.is_ascii() || label.contains(&b'.') {
            return None;
        }
        if !key.is_empty() {
            key.push('.');
        }
        key.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
    }
    Some(key)
}

/// The name of the virtual address that a reverse lookup asks for.
fn named(query: &Query, names: &Names) -> Option<Name> {
    if query.query_type != RecordType::PTR {
        return None;
    }
    let net = query.name.parse_arpa_name().ok()?;
    if net.prefix_len() != net.max_prefix_len() {
        return None;
    }
    let mut name = Name::from_ascii(names.name_of(net.addr())?).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn limit(request: &Message, transport: Transport) -> u16 {
    match (transport, &request.edns) {
        (Transport::Tcp, _) => u16::MAX,
        (Transport::Udp, None) => PLAIN_UDP,
        (Transport::Udp, Some(edns)) => edns.max_payload().clamp(PLAIN_UDP, MAX_UDP),
    }
}

/// Leaves answers out until the rest fits, and says so: some clients take what came and never ask by TCP.
fn encode(mut reply: Message, limit: u16) -> Option<Vec<u8>> {
    /// An AAAA record whose name is a pointer.
    const RECORD: usize = 28;
    loop {
        let bytes = reply.to_vec().ok()?;
        let over = bytes.len().saturating_sub(limit.into());
        if over == 0 {
            return Some(bytes);
        }
        if reply.answers.is_empty() {
            return None;
        }
        reply.metadata.truncation = true;
        let keep = reply.answers.len().saturating_sub(over.div_ceil(RECORD));
        reply.answers.truncate(keep);
    }
}

#[cfg(test)]
mod tests;
