//! A data-plane token that a mesh does not take any more.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest that a certificate of a workload lives, as [`crate::Rotation`] allows it.
const LONGEST_CERTIFICATE: SignedDuration = SignedDuration::from_hours(720);
/// The longest that a data-plane token lives.
const LONGEST_TOKEN: SignedDuration = SignedDuration::from_hours(366 * 24);

/// A data-plane token that the mesh does not take any more, nor certificates that were signed on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevokedToken {
    /// The token's id, its claim `jti`; `ursactl inspect dataplane NAME --type insight` shows that of the token that a dataplane
    /// came with. Not a secret.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9._-]+$"))]
    pub id: String,
    /// When it was revoked, for people, and to know when nobody needs the entry any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", length(max = 40), extend("format" = "date-time"))]
    pub revoked_at: Option<Timestamp>,
    /// When the token expires by itself. What was signed on it may live on after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", length(max = 40), extend("format" = "date-time"))]
    pub expires_at: Option<Timestamp>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub reason: Option<String>,
}

impl RevokedToken {
    /// Whether neither the token nor a certificate that was signed on it can be alive: the entry refuses nobody any more.
    pub fn is_over(&self, now: Timestamp) -> bool {
        let Some(revoked_at) = self.revoked_at else { return false };
        let after = |start: Timestamp, time| start.checked_add(time).unwrap_or(Timestamp::MAX);
        let expires_at = self.expires_at.unwrap_or_else(|| after(revoked_at, LONGEST_TOKEN));
        expires_at.max(after(revoked_at, LONGEST_CERTIFICATE)) < now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_needed_as_long_as_the_token_or_a_certificate_signed_on_it_may_live() {
        let revoked_at: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let after = |days: i64| revoked_at + SignedDuration::from_hours(days * 24);
        let entry = |expires: Option<i64>| RevokedToken {
            id: "a".into(),
            revoked_at: Some(revoked_at),
            expires_at: expires.map(after),
            reason: None,
        };
        // A day's token, a month's certificate.
        assert!(!entry(Some(1)).is_over(after(30)) && entry(Some(1)).is_over(after(31)));
        assert!(!entry(Some(90)).is_over(after(90)) && entry(Some(90)).is_over(after(91)));
        assert!(!entry(None).is_over(after(366)) && entry(None).is_over(after(367)));
        assert!(!RevokedToken { revoked_at: None, ..entry(Some(1)) }.is_over(after(4000)));
    }
}
