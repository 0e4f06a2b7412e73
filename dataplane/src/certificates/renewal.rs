//! When a certificate is due.
//!
//! Invariant: a certificate is renewed when two thirds of the time for which it was given have passed, give or take
//! 5 %, and at once when it names another identity or signer than the control plane announces, or was signed on another
//! token before that.

use std::time::{Duration, SystemTime};

use ursa_model::SpiffeId;

use crate::certificates::store::Held;

/// What the control plane wants the proxy to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announced {
    /// No certificate: mutual TLS is off.
    Off,
    /// A certificate.
    Identity {
        /// For whom.
        spiffe_id: Box<SpiffeId>,
        /// By whom; opaque.
        signer: String,
        /// For how long.
        lifetime: Duration,
        /// The id of the token that this proxy came with, if with any.
        token_id: Option<String>,
        /// When it was announced.
        heard: SystemTime,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until the control plane says something.
    Wait,
    /// Give up key and certificate.
    Drop,
    /// Get a new certificate now.
    Sign {
        /// For whom.
        spiffe_id: SpiffeId,
        /// For how long it will be given.
        lifetime: Duration,
    },
    /// The certificate is good for this long.
    Keep {
        /// Until it is due.
        left: Duration,
    },
}

/// What is to be done now.
pub fn next(announced: Option<&Announced>, held: Option<&Held>, now: SystemTime) -> Step {
    match (announced, held) {
        (None, _) | (Some(Announced::Off), None) => Step::Wait,
        (Some(Announced::Off), Some(_)) => Step::Drop,
        (Some(Announced::Identity { spiffe_id, signer, lifetime, token_id, heard }), held) => {
            let fits = held.filter(|held| held.leaf.spiffe_id == **spiffe_id && held.signer == *signer);
            // The token that it was signed on may be revoked. What was signed since is as new as the token file.
            let fits = fits.filter(|held| {
                token_id.is_none() || held.leaf.token_id == *token_id || held.issued >= *heard
            });
            // A shorter lifetime holds for what was given before, too.
            let due = fits
                .map(|held| due(held.issued, held.leaf.not_after, held.lifetime.min(*lifetime), held.jitter));
            // An instant before the issue: the clock was set back, and says nothing any more.
            let sane = held.is_none_or(|held| now >= held.issued);
            match due.and_then(|due| due.duration_since(now).ok()).filter(|left| sane && !left.is_zero()) {
                Some(left) => Step::Keep { left },
                None => Step::Sign { spiffe_id: SpiffeId::clone(spiffe_id), lifetime: *lifetime },
            }
        }
    }
}

/// When to renew: counted from the issue, since `not_before` may lie earlier to allow for clocks that differ.
fn due(issued: SystemTime, not_after: SystemTime, lifetime: Duration, jitter: f64) -> SystemTime {
    let given = not_after.duration_since(issued).unwrap_or_default().min(lifetime);
    issued + given.mul_f64(2.0 / 3.0 * (1.0 + 0.05 * jitter))
}

/// A part of the 5 % of one certificate, -1 … 1.
pub fn jitter() -> f64 {
    rand::random::<f64>() * 2.0 - 1.0
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::certificates::leaf::Leaf;

    const DAY: Duration = Duration::from_hours(24);

    fn at(hours: f64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs_f64((480_000.0 + hours) * 3600.0)
    }

    fn id(proxy: &str) -> SpiffeId {
        format!("spiffe://east.default.ursa/service/web/ns/-/tags/-/proxy/{proxy}").parse().unwrap()
    }

    fn held() -> Held {
        Held {
            key_pem: String::new(),
            chain_pem: String::new(),
            signer: "ca-1".into(),
            issued: at(0.0),
            lifetime: DAY,
            jitter: 0.0,
            // Backdated by an hour, as signers do.
            leaf: Leaf {
                spiffe_id: id("web-1"),
                not_before: at(-1.0),
                not_after: at(24.0),
                token_id: Some("one".into()),
                fingerprint: String::new(),
            },
        }
    }

    fn announced(proxy: &str, signer: &str, lifetime: Duration) -> Announced {
        let token_id = Some("one".into());
        Announced::Identity {
            spiffe_id: Box::new(id(proxy)),
            signer: signer.into(),
            lifetime,
            token_id,
            heard: at(0.5),
        }
    }

    fn hours_left(announced: &Announced, held: &Held, hour: f64) -> Option<f64> {
        match next(Some(announced), Some(held), at(hour)) {
            Step::Keep { left } => Some(left.as_secs_f64() / 3600.0),
            Step::Sign { .. } => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_of_its_time() {
        let same = announced("web-1", "ca-1", DAY);
        assert_eq!(hours_left(&same, &held(), 0.0), Some(16.0));
        assert_eq!(hours_left(&same, &held(), 15.0), Some(1.0));
        assert_eq!(hours_left(&same, &held(), 16.0), None);
        assert_eq!(hours_left(&same, &held(), 48.0), None);
    }

    #[test]
    fn jitter_moves_it_by_five_percent_at_most() {
        let same = announced("web-1", "ca-1", DAY);
        for (jitter, hours) in [(-1.0, 15.2), (1.0, 16.8)] {
            let left = hours_left(&same, &Held { jitter, ..held() }, 0.0).unwrap();
            assert!((left - hours).abs() < 0.001, "{left}");
        }
        assert!((0..1000).all(|_| (-1.0..=1.0).contains(&jitter())));
    }

    #[test]
    fn a_shorter_lifetime_holds_at_once() {
        let shorter = announced("web-1", "ca-1", DAY / 2);
        assert_eq!(hours_left(&shorter, &held(), 0.0), Some(8.0));
        assert_eq!(hours_left(&shorter, &held(), 9.0), None);
    }

    #[test]
    fn another_identity_or_signer_is_due_at_once() {
        assert_eq!(hours_left(&announced("web-2", "ca-1", DAY), &held(), 0.0), None);
        assert_eq!(hours_left(&announced("web-1", "ca-2", DAY), &held(), 0.0), None);
        assert!(matches!(next(Some(&announced("web-1", "ca-1", DAY)), None, at(0.0)), Step::Sign { .. }));
    }

    #[test]
    fn a_certificate_signed_on_another_token_is_due_at_once_and_only_once() {
        let announced = |token: Option<&str>| {
            let token_id = token.map(str::to_owned);
            let (spiffe_id, signer) = (Box::new(id("web-1")), "ca-1".into());
            Announced::Identity { spiffe_id, signer, lifetime: DAY, token_id, heard: at(1.0) }
        };
        assert_eq!(hours_left(&announced(Some("one")), &held(), 1.0), Some(15.0));
        assert_eq!(hours_left(&announced(None), &held(), 1.0), Some(15.0));
        assert_eq!(hours_left(&announced(Some("two")), &held(), 1.0), None);
        let unsaid = Held { leaf: Leaf { token_id: None, ..held().leaf }, ..held() };
        assert_eq!(hours_left(&announced(Some("one")), &unsaid, 1.0), None, "signed before tokens had ids");
        // The token file has changed once more since the announcement.
        let newer = Held { issued: at(1.0), ..held() };
        assert!(hours_left(&announced(Some("two")), &newer, 1.0).is_some());
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_keep_a_certificate_for_ever() {
        assert_eq!(hours_left(&announced("web-1", "ca-1", DAY), &held(), -100.0), None);
    }

    #[test]
    fn without_word_of_the_control_plane_all_stays_as_it_is() {
        assert_eq!(next(None, Some(&held()), at(30.0)), Step::Wait);
        assert_eq!(next(None, None, at(0.0)), Step::Wait);
    }

    #[test]
    fn mutual_tls_off_means_no_certificate() {
        assert_eq!(next(Some(&Announced::Off), Some(&held()), at(0.0)), Step::Drop);
        assert_eq!(next(Some(&Announced::Off), None, at(0.0)), Step::Wait);
    }
}
