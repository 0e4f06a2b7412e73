//! Tokens that a zone's stream may not be opened with any more, and what whoever holds one is told.

use tonic::Status;
use ursa_crds::{Object, ObjectKey, Spec};
use ursa_identity::{Verified, ZoneClaims};
use ursa_store::Change;

/// To whoever holds a token of a zone that was deleted.
pub(crate) fn deleted(zone: &str) -> Status {
    Status::unauthenticated(format!(
        "zone {zone} was deleted after its token was issued: `ursactl zone create {zone}` at global issues another"
    ))
}

/// To whoever holds a token that its zone does not take any more; `None` if it does.
pub(crate) fn revoked(zone: &Object, token: &Verified<ZoneClaims>) -> Option<Status> {
    let Spec::Zone(spec) = &zone.spec else { return None };
    let not_before = spec.refuses_token_of(token.issued_at)?;
    let zone = &zone.meta.name;
    tracing::info!(zone, token_id = token.id, %not_before, "the zone's token is revoked");
    Some(Status::unauthenticated(format!(
        "credentials of zone {zone} from before {not_before:.0} were revoked: `ursactl zone create {zone}` at global issues another"
    )))
}

/// What a change says to whoever opened a stream with this token, if it revokes it.
pub(crate) fn refuses(change: &Change, token: &Verified<ZoneClaims>) -> Option<Status> {
    let zone = change.object.as_ref().filter(|_| change.key == ObjectKey::zone(&token.claims.zone))?;
    revoked(zone, token)
}
