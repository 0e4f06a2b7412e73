//! Certificates as Secrets: `tls.crt`, `tls.key` and `ca.crt`, or cert-manager's Certificates that end in the same.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::ByteString;
use serde_json::{Value, json};
use ursa_crds::ControlPlaneSpec;

use super::{PARTS, Source};
use crate::certificates::{Authority, Pair};
use crate::control_plane::observe::Tls;
use crate::names::{Names, Part};

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const BUNDLE: &str = "ca.crt";
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";

type Data = BTreeMap<String, ByteString>;

/// Secrets, or the Certificates that make them.
pub(super) fn objects(source: &Source<'_>, tls: &Tls) -> Vec<Value> {
    match tls {
        Tls::SelfMade { authority, control_plane, webhook } => vec![
            secret(source, &source.names.authority(), encode_authority(authority)),
            secret(source, &source.names.tls(Part::ControlPlane), encode(control_plane, &authority.bundle)),
            secret(source, &source.names.tls(Part::Webhook), encode(webhook, &authority.bundle)),
        ],
        Tls::CertManager { .. } => PARTS.into_iter().map(|part| certificate(source, part)).collect(),
    }
}

fn secret(source: &Source<'_>, name: &str, data: Data) -> Value {
    // Not kubernetes.io/tls for all: one type and one way to read them back. The type of a Secret cannot be changed.
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": source.meta(name), "type": "kubernetes.io/tls", "data": data,
    })
}

/// The DNS names and IP addresses in the certificate of a part.
pub(crate) fn names(spec: &ControlPlaneSpec, names: &Names, part: Part) -> Vec<String> {
    let mut all = names.hosts(part);
    if part == Part::ControlPlane {
        all.extend(spec.tls.names.iter().filter(|name| !name.is_empty()).cloned());
    }
    all
}

fn certificate(source: &Source<'_>, part: Part) -> Value {
    let name = source.names.tls(part);
    let is_address = |name: &String| name.parse::<IpAddr>().is_ok();
    let (addresses, hosts): (Vec<_>, Vec<_>) =
        names(source.spec, &source.names, part).into_iter().partition(is_address);
    let mut certificate = json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": source.meta(&name),
        "spec": {
            "secretName": name,
            "dnsNames": hosts,
            "duration": "2160h0m0s",
            "renewBefore": "720h0m0s",
            "privateKey": {"algorithm": "ECDSA", "size": 256, "encoding": "PKCS8", "rotationPolicy": "Always"},
            "usages": ["digital signature", "server auth"],
            "issuerRef": source.spec.tls.issuer_ref,
        },
    });
    if !addresses.is_empty() {
        certificate["spec"]["ipAddresses"] = json!(addresses);
    }
    certificate
}

fn bytes(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}

fn encode(pair: &Pair, bundle: &str) -> Data {
    [(CERTIFICATE, pair.certificate.as_str()), (KEY, &pair.key), (BUNDLE, bundle)]
        .map(|(key, text)| (key.to_owned(), bytes(text)))
        .into()
}

fn encode_authority(authority: &Authority) -> Data {
    let mut data = encode(&authority.current, &authority.bundle);
    if let Some(next) = &authority.next {
        data.insert(NEXT_CERTIFICATE.to_owned(), bytes(&next.certificate));
        data.insert(NEXT_KEY.to_owned(), bytes(&next.key));
    }
    data
}

fn text(data: &Data, key: &str) -> Option<String> {
    data.get(key).and_then(|value| String::from_utf8(value.0.clone()).ok())
}

/// The pair and the bundle that a Secret holds.
pub fn decode(data: &Data) -> (Option<Pair>, Option<String>) {
    let pair = text(data, CERTIFICATE).zip(text(data, KEY));
    (pair.map(|(certificate, key)| Pair { certificate, key }), text(data, BUNDLE))
}

/// The authority that a Secret holds.
pub fn decode_authority(data: &Data) -> Option<Authority> {
    let (current, bundle) = decode(data);
    let next = text(data, NEXT_CERTIFICATE).zip(text(data, NEXT_KEY));
    Some(Authority {
        current: current?,
        next: next.map(|(certificate, key)| Pair { certificate, key }),
        bundle: bundle.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_reads_back_from_its_secret() {
        let pair =
            |name: &str| Pair { certificate: format!("{name} certificate"), key: format!("{name} key") };
        let authority =
            Authority { current: pair("current"), next: Some(pair("next")), bundle: "bundle".to_owned() };
        assert_eq!(decode_authority(&encode_authority(&authority)), Some(authority.clone()));
        let authority = Authority { next: None, ..authority };
        assert_eq!(decode_authority(&encode_authority(&authority)), Some(authority));
        assert_eq!(decode_authority(&Data::new()), None);
    }
}
