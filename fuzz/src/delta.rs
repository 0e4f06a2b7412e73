//! Delta xDS requests of a client that says whatever it likes.

use std::sync::Arc;

use prost::Message as _;
use ursa_envoy::wire::{Any, DeltaDiscoveryRequest, DeltaDiscoveryResponse, WireStatus};
use ursa_envoy::{Resource, ResourceKey, ResourceSet, ResourceType};
use ursa_xds::DeltaStream;

/// Rounds after which a client that acknowledges everything must have everything: additions, then a type of removals at
/// a time.
const ROUNDS: usize = 20;

/// The bytes are what the client does, a step after the other: whatever it says, it gets only what is its own, and once
/// it behaves it gets all of it.
pub fn delta(bytes: &[u8]) {
    let snapshots = [snapshot(0), snapshot(1), snapshot(2)];
    let mut stream = DeltaStream::default();
    let mut target = snapshots[0].clone();
    stream.aim(target.clone());
    let mut open: Vec<DeltaDiscoveryResponse> = Vec::new();
    let mut rest = bytes;
    while let Some((step, next)) = rest.split_first() {
        rest = next;
        match step % 6 {
            0 => request(&mut stream, &subscription(usize::from(step / 6))),
            1 => {
                if let Some(response) = open.pop() {
                    request(&mut stream, &answer(&response, None));
                }
            }
            2 => {
                if let Some(response) = open.pop() {
                    let name = response.resources.first().map(|r| r.name.clone()).unwrap_or_default();
                    request(&mut stream, &answer(&response, Some(&format!("{name}: no"))));
                }
            }
            3 => {
                target = snapshots[usize::from(step / 6) % snapshots.len()].clone();
                stream.aim(target.clone());
            }
            4 => open.clear(), // it forgets what it was sent
            _ => {
                let length = usize::from(step / 6).min(rest.len());
                let (raw, next) = rest.split_at(length);
                rest = next;
                if let Ok(raw) = DeltaDiscoveryRequest::decode(raw) {
                    request(&mut stream, &raw);
                }
            }
        }
        open.extend(responses(&mut stream, &target));
    }
    behave(&mut stream, &target);
}

fn request(stream: &mut DeltaStream, request: &DeltaDiscoveryRequest) {
    let known = ResourceType::from_type_url(&request.type_url).is_some();
    assert_eq!(stream.request(request).is_some(), known, "{}", request.type_url);
}

fn responses(stream: &mut DeltaStream, target: &ResourceSet) -> Vec<DeltaDiscoveryResponse> {
    let responses = stream.responses();
    for response in &responses {
        let resource_type = ResourceType::from_type_url(&response.type_url).expect("a type that is known");
        let wanted = |name: &str| target.get(&ResourceKey { resource_type, name: name.to_owned() });
        for resource in &response.resources {
            let version = wanted(&resource.name).map(|resource| resource.version.as_str());
            assert_eq!(version, Some(resource.version.as_str()), "{} is not the client's", resource.name);
        }
        for name in &response.removed_resources {
            assert!(wanted(name).is_none(), "{name} is removed and wanted");
        }
    }
    responses
}

/// A new stream of the same client says what it holds and answers as it should: it has everything in the end.
fn behave(stream: &mut DeltaStream, target: &Arc<ResourceSet>) {
    *stream = DeltaStream::default();
    stream.aim(target.clone());
    for position in 0..ResourceType::ALL.len() {
        request(stream, &subscription(position));
    }
    for _ in 0..ROUNDS {
        for response in responses(stream, target) {
            request(stream, &answer(&response, None));
        }
    }
    assert!(stream.is_settled(), "a client that behaves has not got everything");
}

fn subscription(position: usize) -> DeltaDiscoveryRequest {
    let resource_type = ResourceType::ALL[position % ResourceType::ALL.len()];
    DeltaDiscoveryRequest {
        type_url: resource_type.type_url().to_owned(),
        // One that is right, one that is old, one that nobody wants.
        initial_resource_versions: [("a", "1"), ("b", "old"), ("gone", "1")]
            .map(|(name, version)| (name.to_owned(), version.to_owned()))
            .into(),
        ..Default::default()
    }
}

fn answer(response: &DeltaDiscoveryResponse, error: Option<&str>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        error_detail: error.map(|message| WireStatus { message: message.to_owned(), ..Default::default() }),
        ..Default::default()
    }
}

/// What a client is to have, in three states that share some of it.
fn snapshot(state: usize) -> Arc<ResourceSet> {
    let resources = ResourceType::ALL.into_iter().flat_map(|resource_type| {
        let names = ["a", "b", "c", "d"].into_iter().skip(state).take(2);
        names.map(move |name| {
            let key = ResourceKey { resource_type, name: name.to_owned() };
            let version = (state % 2 + 1).to_string();
            Arc::new(Resource { key, version, body: Any::default() })
        })
    });
    Arc::new(resources.collect())
}
