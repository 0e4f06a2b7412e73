//! Certificate authorities and the secrets that they come from: what one resource alone cannot tell.
//!
//! Invariant: an authority stays what it is as long as a mesh lists it. A change is a new backend beside the old one, so
//! that both are trusted on the way.

use ursa_crds::{
    CaBackend, CaType, Kind, MeshSpec, MeshZoneSpec, Object, ObjectKey, Problem as FieldProblem, Spec, schema,
};
use ursa_index::provided;
use ursa_policy::is_member_zone;
use ursa_store::Store;

use crate::problem::Problem;
use crate::standing::{enforcement, zone_schema};

/// What is wrong with writing this object.
pub(crate) fn check(store: &Store, object: &Object) -> Result<(), Problem> {
    let key = object.key();
    match &object.spec {
        Spec::Mesh(spec) => {
            let problems = check_backends(store, &key.name, spec);
            if !problems.is_empty() {
                return Err(Problem::invalid(problems));
            }
            rotation(store, &key.name, spec)
        }
        Spec::Secret(_) if store.get(&key).is_some_and(|known| known.spec != object.spec) => {
            unused(store, &key)
        }
        _ => Ok(()),
    }
}

/// A secret that an authority comes from stays as it is: its zones' intermediates would not follow.
pub(crate) fn unused(store: &Store, key: &ObjectKey) -> Result<(), Problem> {
    if key.kind != Kind::Secret {
        return Ok(());
    }
    let users: Vec<String> = backends(store, &key.mesh)
        .into_iter()
        .filter(|backend| {
            backend.conf.as_ref().is_some_and(|c| c.cert.secret == key.name || c.key.secret == key.name)
        })
        .map(|backend| backend.name)
        .collect();
    if users.is_empty() {
        return Ok(());
    }
    Err(Problem::conflict(format!(
        "secret {} is in use by backend {} of mesh {}: add a backend with another secret, enable it, and remove this one",
        key.name,
        users.join(", "),
        key.mesh
    )))
}

fn backends(store: &Store, mesh: &str) -> Vec<CaBackend> {
    match store.get(&ObjectKey::mesh(mesh)).as_deref().map(|object| &object.spec) {
        Some(Spec::Mesh(MeshSpec { mtls: Some(mtls), .. })) => mtls.backends.clone(),
        _ => Vec::new(),
    }
}

/// Distribute, sign, drain, remove: each step waits for the one before it in every zone that is not disabled.
fn rotation(store: &Store, mesh: &str, spec: &MeshSpec) -> Result<(), Problem> {
    let Some(Spec::Mesh(before)) = store.get(&ObjectKey::mesh(mesh)).map(|object| object.spec.clone()) else {
        return Ok(());
    };
    let (Some(old), Some(new)) = (before.enabled_backend(), spec.enabled_backend()) else { return Ok(()) };
    let offers = store.list_in_mesh(Kind::MeshZone, mesh);
    let zones: Vec<(&str, &MeshZoneSpec)> = (offers.iter())
        .filter(|object| is_enabled(store, &object.meta.name))
        .filter_map(|object| match &object.spec {
            Spec::MeshZone(of) => Some((object.meta.name.as_str(), of)),
            _ => None,
        })
        .collect();
    if old.name != new.name {
        let lacking = |of: &MeshZoneSpec| !of.backends.iter().any(|backend| backend.name == new.name);
        let lacking: Vec<&str> = zones.iter().filter(|(_, of)| lacking(of)).map(|(zone, _)| *zone).collect();
        if !lacking.is_empty() {
            return Err(Problem::conflict(format!(
                "backend {} cannot sign yet: it is not known in zone {}. Add it to spec.mtls.backends beside {}, and enable it when every zone has it (`ursactl get meshzones`); a zone that is gone for good can be disabled",
                new.name,
                lacking.join(", "),
                old.name
            )));
        }
        distributed(store, mesh, &before, &zones, &new.name)?;
    }
    let stays =
        |name: &str| spec.mtls.iter().flat_map(|mtls| &mtls.backends).any(|backend| backend.name == name);
    let held: Vec<String> = zones
        .iter()
        .flat_map(|(zone, of)| of.backends.iter().map(move |backend| (zone, backend)))
        .filter(|(_, backend)| backend.proxies > 0 && !stays(&backend.name))
        .map(|(zone, backend)| {
            format!("{} proxies of zone {zone} hold one of {}", backend.proxies, backend.name)
        })
        .collect();
    if held.is_empty() {
        return Ok(());
    }
    Err(Problem::conflict(format!(
        "certificates are still in use: {}. Keep the backend until they have been renewed",
        held.join("; ")
    )))
}

/// Whether the proxies of every zone trust what is to sign in each: that a zone has it is not enough.
fn distributed(
    store: &Store,
    mesh: &str,
    spec: &MeshSpec,
    zones: &[(&str, &MeshZoneSpec)],
    backend: &str,
) -> Result<(), Problem> {
    let members = || zones.iter().filter(|(zone, _)| is_member_zone(spec, zone));
    let trusted: Vec<(String, u64)> =
        members().map(|(zone, of)| ursa_index::trusts(zone, &of.roots)).collect();
    for (zone, _) in members() {
        if let Some(schema) = zone_schema(store, zone).filter(|of| !schema::knows(Kind::MeshZoneInsight, *of))
        {
            return Err(Problem::conflict(format!(
                "backend {backend} cannot sign yet: zone {zone} runs schema {schema}, which does not tell whether its proxies trust it; upgrade the zone first"
            )));
        }
        for (uid, generation) in &trusted {
            let of = enforcement(store, mesh, zone, uid).filter(|of| of.generation == *generation);
            if of.as_ref().is_some_and(|of| of.enforced) {
                continue;
            }
            let laggards = of.map(|of| of.laggards.join(", ")).filter(|names| !names.is_empty());
            let laggards = laggards.map(|names| format!(" ({names})")).unwrap_or_default();
            return Err(Problem::conflict(format!(
                "backend {backend} cannot sign yet: proxies of zone {zone}{laggards} do not trust it yet; try again when they do, or disable the zone if it is gone for good"
            )));
        }
    }
    Ok(())
}

/// Whether anybody waits for a zone.
fn is_enabled(store: &Store, zone: &str) -> bool {
    match store.get(&ObjectKey::zone(zone)).as_deref().map(|object| &object.spec) {
        Some(Spec::Zone(spec)) => spec.enabled,
        _ => true,
    }
}

fn check_backends(store: &Store, mesh: &str, spec: &MeshSpec) -> Vec<FieldProblem> {
    let Some(mtls) = &spec.mtls else { return Vec::new() };
    let known = backends(store, mesh);
    let mut problems = Vec::new();
    for (position, backend) in mtls.backends.iter().enumerate() {
        let field = format!("spec.mtls.backends[{position}]");
        let before = known.iter().find(|known| known.name == backend.name);
        let same = |known: &CaBackend| known.ca_type == backend.ca_type && known.conf == backend.conf;
        match (before, &backend.conf) {
            (Some(before), _) if !same(before) => {
                let message = "a backend cannot become another authority: add one under another name, enable it, and remove this one";
                problems.push(FieldProblem::new(format!("{field}.type"), message));
            }
            (None, Some(conf)) if backend.ca_type == CaType::Provided => {
                problems.extend(provided::read(store, mesh, conf, &format!("{field}.conf")).err());
            }
            _ => {}
        }
    }
    problems
}
