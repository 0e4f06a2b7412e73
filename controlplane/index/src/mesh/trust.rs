//! By which roots workloads of a mesh are known, and who signs.

use std::sync::Arc;

use ursa_crds::{MeshSpec, MeshZoneSpec};
use ursa_model::{TrustBundle, TrustDomain};

use crate::authority::{Authority, AuthorityError};
use crate::snapshot::IdentityGrant;

/// What a mesh's certificate authorities in this zone come to; empty while mutual TLS is off.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Trust {
    /// The zone's roots.
    pub(super) bundle: TrustBundle,
    /// Who signs, as a grant without an identity yet.
    pub(super) signer: Option<IdentityGrant>,
    /// The backends that the roots are of, by name.
    pub(super) backends: Vec<String>,
}

pub(super) async fn trust(
    mesh: &str,
    spec: &MeshSpec,
    authority: &Arc<Authority>,
) -> Result<Trust, AuthorityError> {
    let backends = spec.mtls.as_ref().map(|mtls| mtls.backends.as_slice()).unwrap_or_default();
    authority.retain(mesh, backends).await.map_err(|source| AuthorityError::Store {
        mesh: mesh.to_owned(),
        backend: "that was removed".to_owned(),
        source,
    })?;
    let Some(enabled) = spec.enabled_backend() else {
        return Ok(Trust::default());
    };
    let domain = TrustDomain::new(authority.zone(), mesh);
    let mut roots = String::new();
    let (mut signer, mut names) = (None, Vec::new());
    for backend in backends {
        // A backend that does not sign yet is trusted already, so that changing over is seamless.
        let ca = match authority.ensure(mesh, backend).await {
            Err(error @ AuthorityError::Pending { .. }) if backend.name != enabled.name => {
                tracing::info!(%error, "not trusted yet");
                continue;
            }
            ca => ca?,
        };
        roots.push_str(ca.root_pem());
        names.push(backend.name.clone());
        if backend.name == enabled.name {
            signer = Some(IdentityGrant {
                spiffe_id: ursa_model::SpiffeId::universal(domain.clone(), "", ""),
                backend: backend.name.clone(),
                signer: ca.signer().to_owned(),
                lifetime: backend.dp_cert.rotation.expiration.get(),
            });
        }
    }
    names.sort_unstable();
    Ok(Trust { bundle: TrustBundle::from([(domain.to_string(), roots)]), signer, backends: names })
}

/// The roots of another zone, unless they are not what they should be: then its workloads are strangers.
pub(super) fn trusted_roots(zone: &str, offer: &MeshZoneSpec) -> Option<(String, String)> {
    if offer.roots.is_empty() {
        return None;
    }
    let domain = TrustDomain::new(zone, &offer.mesh);
    match ursa_identity::check_roots(&offer.roots, &domain) {
        Ok(()) => Some((domain.to_string(), offer.roots.clone())),
        Err(error) => {
            tracing::warn!(zone, mesh = offer.mesh, %error, "the roots of the zone are refused");
            None
        }
    }
}
