//! PEM texts.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// The certificates of a PEM text, in order; other sections are passed over.
pub(crate) fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, rustls_pki_types::pem::Error> {
    CertificateDer::pem_slice_iter(text.as_bytes()).collect()
}
