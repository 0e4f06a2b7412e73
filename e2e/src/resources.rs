//! Resources as a user writes them.

use anyhow::Context as _;
use k8s_openapi::ByteString;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, PKCS_ED25519, SigningKey as _};

/// The mesh `default` with mutual TLS by a builtin authority.
pub const MTLS: &str = "
apiVersion: ursamesh.io/v1alpha1
kind: Mesh
metadata: {name: default}
spec:
  mtls:
    enabledBackend: ca-1
    backends: [{name: ca-1, type: Builtin}]
";

/// Selects everybody.
pub const ANYBODY: &str = "ursamesh.io/service: '*'";

/// A permission for sources with these tags (`KEY: VALUE`), to every service.
pub fn permission(name: &str, action: &str, source: &str) -> String {
    format!(
        "
apiVersion: ursamesh.io/v1alpha1
kind: TrafficPermission
metadata: {{name: {name}}}
spec:
  action: {action}
  sources: [{{match: {{{source}}}}}]
  destinations: [{{match: {{ursamesh.io/service: '*'}}}}]
"
    )
}

/// A company's root: certificate and key, PEM.
pub fn corp_root() -> anyhow::Result<(String, String)> {
    let key = KeyPair::generate()?;
    Ok((root().self_signed(&key)?.pem(), key.serialize_pem()))
}

fn root() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "Corp");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// One that a careless program has made: its serial number, 1, is written in two bytes. Most readers take it; Envoy's does not,
/// for DER (X.690, 8.3.2) has one form of a number, the shortest.
pub fn misencoded_root() -> anyhow::Result<(String, String)> {
    /// Version 3, and a serial number of two bytes.
    const RIGHT: [u8; 9] = [0xa0, 3, 2, 1, 2, 2, 2, 1, 1];
    const WRONG: [u8; 9] = [0xa0, 3, 2, 1, 2, 2, 2, 0, 1];
    /// Behind what is signed: the algorithm, and a signature of always 64 bytes.
    const ALGORITHM: usize = 7;
    const SIGNATURE: usize = 64;
    let key = KeyPair::generate_for(&PKCS_ED25519)?;
    let mut params = root();
    params.serial_number = Some(vec![1, 1].into());
    let mut der = params.self_signed(&key)?.der().to_vec();
    let at = der.windows(RIGHT.len()).position(|bytes| bytes == RIGHT).context("no serial number")?;
    der[at..at + WRONG.len()].copy_from_slice(&WRONG);
    let (signature, header) = (der.len() - SIGNATURE, if der[1] == 0x82 { 4 } else { 3 });
    let signed = key.sign(&der[header..signature - ALGORITHM - 3])?;
    der[signature..].copy_from_slice(&signed);
    let base64 = serde_json::to_value(ByteString(der))?;
    let base64 = base64.as_str().context("base64")?;
    let pem = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
    Ok((pem, key.serialize_pem()))
}

#[cfg(test)]
mod tests {
    use ursa_identity::ProvidedCa;

    #[test]
    fn a_control_plane_takes_the_misencoded_root() {
        let (certificate, key) = super::misencoded_root().unwrap();
        ProvidedCa::read(&certificate, &key, jiff::Timestamp::now()).unwrap();
    }
}
