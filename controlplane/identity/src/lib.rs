//! Identity and trust: tokens, the certificate authority of a zone in a mesh, workload certificates, and the control
//! plane's own TLS. No clock and no I/O: the time is passed in.
//!
//! Invariant: what ends up in a certificate comes from the authenticated identity, never from a request.

mod ca;
mod claims;
mod leaf;
mod pem;
mod provided;
mod served;
mod server_tls;
mod tokens;

pub use ca::{CaError, SignError, ZoneCa, check_roots};
pub use claims::{DataplaneClaims, ReplicaClaims, UserClaims, ZoneClaims};
pub use leaf::{LeafError, VerifiedLeaf, verify_leaf};
pub use provided::{INTERMEDIATE_LIFETIME, IntermediateRequest, ProvidedCa, ProvidedError};
pub use served::{ClientCerts, ServedCertificate};
pub use server_tls::{ServerTls, ServerTlsError};
pub use tokens::{Issued, TokenError, Tokens, Unverified, Verified, read_unverified};
