//! Roots that users provide, as secrets in the store of global or of a standalone control plane.

use jiff::Timestamp;
use ursa_crds::{CaType, Kind, ObjectKey, Problem, ProvidedConf, SecretRef, SecretValue, Spec};
use ursa_identity::{ProvidedCa, ProvidedError};
use ursa_model::TrustDomain;
use ursa_store::Store;

/// The root that a backend of a mesh names. `field` is the path of its `conf`, for the problem.
pub fn read(store: &Store, mesh: &str, conf: &ProvidedConf, field: &str) -> Result<ProvidedCa, Problem> {
    let path = |part: &str| format!("{field}.{part}.secret");
    let certificate = secret(store, mesh, &conf.cert, &path("cert"))?;
    let key = secret(store, mesh, &conf.key, &path("key"))?;
    ProvidedCa::read(certificate.reveal(), key.reveal(), Timestamp::now()).map_err(|error| {
        let (part, secret) = match error {
            ProvidedError::Certificate(_) => ("cert", &conf.cert.secret),
            ProvidedError::Key(_) => ("key", &conf.key.secret),
        };
        Problem::new(path(part), format!("the secret {secret} {error}"))
    })
}

fn secret(store: &Store, mesh: &str, named: &SecretRef, field: &str) -> Result<SecretValue, Problem> {
    let object = store.get(&ObjectKey::in_mesh(Kind::Secret, mesh, &named.secret));
    match object.as_deref().map(|object| &object.spec) {
        Some(Spec::Secret(spec)) => Ok(spec.value.clone()),
        _ => Err(Problem::new(field, format!("there is no secret {} in mesh {mesh}", named.secret))),
    }
}

/// An intermediate for a zone, and its root, PEM; or the reason why there is none, for the zone's log.
pub fn sign_intermediate(
    store: &Store,
    zone: &str,
    mesh: &str,
    backend: &str,
    csr: &[u8],
) -> Result<String, String> {
    let object = store.get(&ObjectKey::mesh(mesh)).ok_or_else(|| format!("mesh {mesh} does not exist"))?;
    let Spec::Mesh(spec) = &object.spec else { return Err(format!("{mesh} is no mesh")) };
    let backends = spec.mtls.as_ref().map(|mtls| mtls.backends.as_slice()).unwrap_or_default();
    let found = backends.iter().find(|known| known.name == backend && known.ca_type == CaType::Provided);
    let conf = found.and_then(|found| found.conf.as_ref());
    let conf = conf.ok_or_else(|| format!("mesh {mesh} has no provided backend {backend}"))?;
    let root = read(store, mesh, conf, "conf").map_err(|problem| problem.to_string())?;
    let domain = TrustDomain::new(zone, mesh);
    let chain = root.sign_intermediate(csr, &domain, Timestamp::now()).map_err(|error| error.to_string())?;
    tracing::info!(zone, mesh, backend, "signed a zone's intermediate");
    Ok(chain)
}
