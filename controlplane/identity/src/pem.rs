//! PEM texts.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The certificates of a PEM text as texts, in order, without what is around them.
pub(crate) fn texts(text: &str) -> Vec<String> {
    let one = |part: &str| {
        let begin = part.find(BEGIN)?;
        Some(format!("{}{END}\n", &part[begin..]))
    };
    let mut parts: Vec<&str> = text.split(END).collect();
    parts.pop(); // what comes after the last end
    parts.into_iter().filter_map(one).collect()
}

/// The certificates of a PEM text, in order; other sections are passed over.
pub(crate) fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, rustls_pki_types::pem::Error> {
    CertificateDer::pem_slice_iter(text.as_bytes()).collect()
}
