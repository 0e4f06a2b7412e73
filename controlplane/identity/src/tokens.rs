//! Tokens: JWTs signed with ES256. Each kind has an audience of its own, so that none is taken for another.
//! Source: RFC 7519, RFC 8725.

#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use ursa_model::hex;

use crate::{DataplaneClaims, ReplicaClaims, UserClaims, ZoneClaims};

const DAY: u64 = 24 * 3600;
const HOUR: Duration = Duration::from_hours(1);
const YEAR: Duration = Duration::from_secs(366 * DAY);
const TEN_YEARS: Duration = Duration::from_secs(3660 * DAY);
/// How far the clocks of two control planes may differ.
const LEEWAY_SECONDS: i64 = 60;

/// Why a token was refused, or not issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nothing was given.
    #[error("the token is empty")]
    Empty,
    /// Not a token.
    #[error("the token cannot be read")]
    Malformed,
    /// Signed by a key that is not known here.
    #[error("the token was not issued by this control plane")]
    Foreign,
    /// For another purpose.
    #[error("the token is of another kind: expected one for {0}")]
    Audience(&'static str),
    /// Its time is over.
    #[error("the token has expired; issue a new one")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet; check the clocks")]
    NotYet,
    /// It does not allow what was tried.
    #[error("{0}")]
    NotAllowed(String),
    /// It may not be issued like this.
    #[error("{0}")]
    Refused(String),
    /// The signing key failed.
    #[error("the signing key cannot be used: {0}")]
    Key(String),
}

/// A token that was issued.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// The token: a secret.
    pub token: String,
    /// The end of its life.
    pub expires_at: Timestamp,
}

/// A token that is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<C> {
    /// What it is for.
    pub claims: C,
    /// Names the token among all, so that it can be revoked; no secret. Its `jti`; of tokens from before they had one, 32
    /// hexadecimal digits of the SHA-256 of what is signed in it.
    pub id: String,
    /// When it was issued, in whole seconds.
    pub issued_at: Timestamp,
}

/// What a data-plane token says of itself: whoever signed it, maybe another control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unverified {
    /// As in [`Verified`].
    pub id: String,
    /// Its mesh; empty: it is for a zone ingress.
    pub mesh: String,
    /// The end of its life.
    pub expires_at: Timestamp,
}

/// What each token holds besides its claims.
#[derive(Serialize, Deserialize)]
struct Envelope<C> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    aud: String,
    iat: i64,
    nbf: i64,
    exp: i64,
    ursa: C,
}

trait Kind: Serialize + DeserializeOwned {
    const AUDIENCE: &'static str;
    const LONGEST: Duration;
    fn check(&self) -> Result<(), TokenError>;
}

impl Kind for DataplaneClaims {
    const AUDIENCE: &'static str = "ursa:dataplane";
    const LONGEST: Duration = YEAR;

    fn check(&self) -> Result<(), TokenError> {
        let bound = self.name.is_some() || !self.services.is_empty();
        bound
            .then_some(())
            .ok_or_else(|| TokenError::Refused("a data-plane token needs a name or services".into()))
    }
}

impl Kind for UserClaims {
    const AUDIENCE: &'static str = "ursa:user";
    const LONGEST: Duration = TEN_YEARS;

    fn check(&self) -> Result<(), TokenError> {
        (!self.name.is_empty())
            .then_some(())
            .ok_or_else(|| TokenError::Refused("a user token needs a name".into()))
    }
}

impl Kind for ZoneClaims {
    const AUDIENCE: &'static str = "ursa:zone";
    const LONGEST: Duration = TEN_YEARS;

    fn check(&self) -> Result<(), TokenError> {
        (!self.zone.is_empty())
            .then_some(())
            .ok_or_else(|| TokenError::Refused("a zone token needs a zone".into()))
    }
}

impl Kind for ReplicaClaims {
    const AUDIENCE: &'static str = "ursa:replica";
    const LONGEST: Duration = HOUR;

    fn check(&self) -> Result<(), TokenError> {
        (!self.namespace.is_empty() && !self.replica.is_empty())
            .then_some(())
            .ok_or_else(|| TokenError::Refused("a replica's token needs a namespace and a replica".into()))
    }
}

/// Issues and verifies tokens with one key, which can be replaced meanwhile.
pub struct Tokens(RwLock<Arc<SigningKey>>);

struct SigningKey {
    private_pem: String,
    public_pem: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

impl SigningKey {
    fn from_private_pem(pem: &str) -> Result<Self, TokenError> {
        Self::of(&KeyPair::from_pem(pem).map_err(key_error)?)
    }

    fn of(key: &KeyPair) -> Result<Self, TokenError> {
        let (private_pem, public_pem) = (key.serialize_pem(), key.public_key_pem());
        Ok(Self {
            encoding: EncodingKey::from_ec_pem(private_pem.as_bytes()).map_err(key_error)?,
            decoding: DecodingKey::from_ec_pem(public_pem.as_bytes()).map_err(key_error)?,
            private_pem,
            public_pem,
        })
    }
}

impl Tokens {
    /// With a new key.
    pub fn generate() -> Result<Self, TokenError> {
        SigningKey::of(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(key_error)?).map(Self::with)
    }

    /// With a stored key (PKCS#8, PEM).
    pub fn from_private_pem(pem: &str) -> Result<Self, TokenError> {
        SigningKey::from_private_pem(pem).map(Self::with)
    }

    fn with(key: SigningKey) -> Self {
        Self(RwLock::new(Arc::new(key)))
    }

    /// From now on with this key (PKCS#8, PEM): what the former one has signed counts no more. False: it is that key already.
    pub fn replace(&self, pem: &str) -> Result<bool, TokenError> {
        if self.private_pem() == pem {
            return Ok(false);
        }
        let key = SigningKey::from_private_pem(pem)?;
        let is_other = key.private_pem != self.private_pem();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
        Ok(is_other)
    }

    fn key(&self) -> Arc<SigningKey> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The key as it is stored: a secret.
    pub fn private_pem(&self) -> String {
        self.key().private_pem.clone()
    }

    /// What others need to verify.
    pub fn public_pem(&self) -> String {
        self.key().public_pem.clone()
    }

    /// Issues a token for agents.
    pub fn issue_dataplane(
        &self,
        claims: &DataplaneClaims,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Issued, TokenError> {
        self.issue(claims, ttl, now)
    }

    /// Issues a token for a user of the REST API.
    pub fn issue_user(
        &self,
        claims: &UserClaims,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Issued, TokenError> {
        self.issue(claims, ttl, now)
    }

    /// Issues a token for a zone control plane.
    pub fn issue_zone(
        &self,
        claims: &ZoneClaims,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Issued, TokenError> {
        self.issue(claims, ttl, now)
    }

    /// Issues a token for a replica of this control plane.
    pub fn issue_replica(
        &self,
        claims: &ReplicaClaims,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Issued, TokenError> {
        self.issue(claims, ttl, now)
    }

    /// Verifies a token of an agent.
    pub fn verify_dataplane(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<Verified<DataplaneClaims>, TokenError> {
        self.verify(token, now)
    }

    /// Verifies a token of a user.
    pub fn verify_user(&self, token: &str, now: Timestamp) -> Result<UserClaims, TokenError> {
        Ok(self.verify(token, now)?.claims)
    }

    /// Verifies a token of a zone.
    pub fn verify_zone(&self, token: &str, now: Timestamp) -> Result<Verified<ZoneClaims>, TokenError> {
        self.verify(token, now)
    }

    /// Verifies a token of another replica of the control plane in this namespace.
    pub fn verify_replica(
        &self,
        token: &str,
        namespace: &str,
        now: Timestamp,
    ) -> Result<ReplicaClaims, TokenError> {
        let Verified { claims, .. }: Verified<ReplicaClaims> = self.verify(token, now)?;
        if claims.namespace == namespace {
            Ok(claims)
        } else {
            Err(TokenError::NotAllowed(format!(
                "the token is for replicas in namespace {}, not {namespace}",
                claims.namespace
            )))
        }
    }

    fn issue<C: Kind + Clone>(
        &self,
        claims: &C,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Issued, TokenError> {
        claims.check()?;
        if ttl < Duration::from_secs(1) || ttl > C::LONGEST {
            let longest = match C::LONGEST.as_secs() / DAY {
                0 => format!("{}s", C::LONGEST.as_secs()),
                days => format!("{days} days"),
            };
            return Err(TokenError::Refused(format!("the validity must be between 1s and {longest}")));
        }
        let expires_at = now.checked_add(ttl).map_err(|e| TokenError::Refused(e.to_string()))?;
        let envelope = Envelope {
            jti: Some(hex(&rand::random::<[u8; 16]>())),
            aud: C::AUDIENCE.to_owned(),
            iat: now.as_second(),
            nbf: now.as_second(),
            exp: expires_at.as_second(),
            ursa: claims.clone(),
        };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &envelope, &self.key().encoding)
            .map_err(key_error)?;
        Ok(Issued { token, expires_at })
    }

    fn verify<C: Kind>(&self, token: &str, now: Timestamp) -> Result<Verified<C>, TokenError> {
        if token.is_empty() {
            return Err(TokenError::Empty);
        }
        let mut validation = Validation::new(Algorithm::ES256);
        // The library reads the clock itself; here the time is passed in.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.set_required_spec_claims(&["exp", "aud"]);
        let data =
            jsonwebtoken::decode::<Envelope<serde_json::Value>>(token, &self.key().decoding, &validation);
        let envelope = data.map_err(|error| match error.kind() {
            ErrorKind::InvalidSignature => TokenError::Foreign,
            _ => TokenError::Malformed,
        })?;
        let Envelope { jti, aud, iat, nbf, exp, ursa } = envelope.claims;
        if aud != C::AUDIENCE {
            return Err(TokenError::Audience(C::AUDIENCE));
        }
        if exp <= now.as_second() {
            return Err(TokenError::Expired);
        }
        if nbf > now.as_second() + LEEWAY_SECONDS {
            return Err(TokenError::NotYet);
        }
        Ok(Verified {
            claims: serde_json::from_value(ursa).map_err(|_| TokenError::Malformed)?,
            id: id(jti, token)?,
            issued_at: Timestamp::from_second(iat).map_err(|_| TokenError::Malformed)?,
        })
    }
}

/// Reads a data-plane token that may be another control plane's, such as a zone's at global. Nothing of it is proved: good for
/// refusing, never for admitting.
pub fn read_unverified(token: &str) -> Result<Unverified, TokenError> {
    if token.is_empty() {
        return Err(TokenError::Empty);
    }
    let envelope = jsonwebtoken::dangerous::insecure_decode::<Envelope<serde_json::Value>>(token);
    let Envelope { jti, aud, exp, ursa, .. } = envelope.map_err(|_| TokenError::Malformed)?.claims;
    if aud != DataplaneClaims::AUDIENCE {
        return Err(TokenError::Audience(DataplaneClaims::AUDIENCE));
    }
    let claims: DataplaneClaims = serde_json::from_value(ursa).map_err(|_| TokenError::Malformed)?;
    Ok(Unverified {
        id: id(jti, token)?,
        mesh: claims.mesh,
        expires_at: Timestamp::from_second(exp).map_err(|_| TokenError::Malformed)?,
    })
}

/// The id of a token. One without a `jti` is named by what is signed in it, and not by its signature, which its holder can write
/// in several ways.
fn id(jti: Option<String>, token: &str) -> Result<String, TokenError> {
    match jti {
        Some(id) if (1..=64).contains(&id.len()) => Ok(id),
        Some(_) => Err(TokenError::Malformed),
        None => {
            let signed = token.rsplit_once('.').map_or(token, |(signed, _)| signed);
            Ok(hex(&Sha256::digest(signed)[..16]))
        }
    }
}

fn key_error(error: impl std::fmt::Display) -> TokenError {
    TokenError::Key(error.to_string())
}
