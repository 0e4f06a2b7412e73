//! What a token is taken for, and by whom.

use super::*;

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn claims() -> DataplaneClaims {
    DataplaneClaims {
        mesh: "default".into(),
        zone: None,
        name: Some("web-1".into()),
        services: vec!["web".into()],
        tags: [("team".to_owned(), "payments".to_owned())].into(),
    }
}

#[test]
fn a_token_says_what_it_was_issued_for() {
    let tokens = Tokens::generate().unwrap();
    let again = Tokens::from_private_pem(&tokens.private_pem()).unwrap();
    let issued = tokens.issue_dataplane(&claims(), HOUR, now()).unwrap();
    let verified = again.verify_dataplane(&issued.token, now()).unwrap();
    assert_eq!((verified.claims, verified.issued_at), (claims(), now()));
    assert_eq!(again.verify_dataplane(&issued.token, issued.expires_at), Err(TokenError::Expired));
    let early = now() - jiff::SignedDuration::from_secs(120);
    assert_eq!(again.verify_dataplane(&issued.token, early), Err(TokenError::NotYet));
}

#[test]
fn each_token_has_an_id_that_whoever_holds_it_cannot_change() {
    let tokens = Tokens::generate().unwrap();
    let [one, other] = [(); 2].map(|()| tokens.issue_dataplane(&claims(), HOUR, now()).unwrap());
    let id = |token: &str| tokens.verify_dataplane(token, now()).unwrap().id;
    assert_ne!(id(&one.token), id(&other.token), "the same claims, issued at once");
    assert!(id(&one.token).len() == 32 && id(&one.token).bytes().all(|b| b.is_ascii_hexdigit()));
    let read = read_unverified(&one.token).unwrap();
    let expected = Unverified {
        id: id(&one.token),
        mesh: "default".into(),
        expires_at: Timestamp::from_second(one.expires_at.as_second()).unwrap(),
    };
    assert_eq!(read, expected, "also by who does not know the key");

    // As tokens were before they had one.
    let second = now().as_second();
    let without = Envelope {
        jti: None,
        aud: DataplaneClaims::AUDIENCE.into(),
        iat: second,
        nbf: second,
        exp: second + 3600,
        ursa: claims(),
    };
    let token =
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), &without, &tokens.key().encoding).unwrap();
    let (signed, _) = token.rsplit_once('.').unwrap();
    let again =
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), &without, &tokens.key().encoding).unwrap();
    assert!(again.starts_with(signed), "signed again it may look different, and is the same token");
    assert_eq!(id(&token), id(&again));
    assert_eq!(read_unverified(&token).unwrap().id, id(&token));
    assert_eq!(id(&token).len(), 32);

    let nameless = Envelope { jti: Some(String::new()), ..without };
    let nameless =
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), &nameless, &tokens.key().encoding).unwrap();
    assert_eq!(tokens.verify_dataplane(&nameless, now()), Err(TokenError::Malformed));
}

#[test]
fn only_a_data_plane_token_is_read_unverified() {
    let tokens = Tokens::generate().unwrap();
    let zone = tokens.issue_zone(&ZoneClaims { zone: "east".into(), uid: "u".into() }, HOUR, now()).unwrap();
    assert!(matches!(read_unverified(&zone.token), Err(TokenError::Audience(_))));
    assert_eq!(read_unverified(""), Err(TokenError::Empty));
    assert_eq!(read_unverified("a.b.c"), Err(TokenError::Malformed));
}

#[test]
fn with_another_key_what_that_has_signed_counts_and_nothing_else() {
    let (tokens, other) = (Tokens::generate().unwrap(), Tokens::generate().unwrap());
    let verified = |by: &Tokens, token: &str| by.verify_dataplane(token, now()).map(|token| token.claims);
    let issue = |by: &Tokens| by.issue_dataplane(&claims(), HOUR, now()).unwrap().token;
    let (before, of_other) = (issue(&tokens), issue(&other));
    assert_eq!(tokens.replace(&tokens.private_pem()), Ok(false));
    assert!(tokens.replace("no key").is_err());
    assert_eq!(verified(&tokens, &before), Ok(claims()), "what is no key changes nothing");
    assert_eq!(tokens.replace(&other.private_pem()), Ok(true));
    assert_eq!(verified(&tokens, &of_other), Ok(claims()));
    assert_eq!(verified(&tokens, &before), Err(TokenError::Foreign));
    assert_eq!(verified(&other, &issue(&tokens)), Ok(claims()));
}

#[test]
fn no_token_is_taken_for_another() {
    let tokens = Tokens::generate().unwrap();
    let dataplane = tokens.issue_dataplane(&claims(), HOUR, now()).unwrap().token;
    let user = UserClaims { name: "admin".into(), groups: vec!["admin".into()] };
    let user = tokens.issue_user(&user, HOUR, now()).unwrap().token;
    let zone =
        tokens.issue_zone(&ZoneClaims { zone: "east".into(), uid: "u".into() }, HOUR, now()).unwrap().token;
    assert!(matches!(tokens.verify_user(&dataplane, now()), Err(TokenError::Audience(_))));
    assert!(matches!(tokens.verify_dataplane(&user, now()), Err(TokenError::Audience(_))));
    assert!(matches!(tokens.verify_dataplane(&zone, now()), Err(TokenError::Audience(_))));
    assert!(matches!(tokens.verify_zone(&user, now()), Err(TokenError::Audience(_))));
    assert_eq!(Tokens::generate().unwrap().verify_user(&user, now()), Err(TokenError::Foreign));
}

#[test]
fn what_is_no_token_is_refused() {
    let tokens = Tokens::generate().unwrap();
    assert_eq!(tokens.verify_user("", now()), Err(TokenError::Empty));
    assert_eq!(tokens.verify_user("a.b.c", now()), Err(TokenError::Malformed));
    let token = tokens.issue_dataplane(&claims(), HOUR, now()).unwrap().token;
    let (_, rest) = token.split_once('.').unwrap();
    // {"alg":"none"}
    assert_eq!(
        tokens.verify_dataplane(&format!("eyJhbGciOiJub25lIn0.{rest}"), now()),
        Err(TokenError::Malformed)
    );
}

#[test]
fn a_replica_s_token_is_one_of_its_own_namespace_and_for_nothing_else() {
    let tokens = Tokens::generate().unwrap();
    let claims = ReplicaClaims { namespace: "ursa-system".into(), replica: "ursa-cp-1_a".into() };
    let issued = tokens.issue_replica(&claims, HOUR, now()).unwrap();
    let replica = &issued.token;
    assert_eq!(tokens.verify_replica(replica, "ursa-system", now()), Ok(claims.clone()));
    let elsewhere = tokens.verify_replica(replica, "other", now());
    assert!(matches!(elsewhere, Err(TokenError::NotAllowed(_))), "{elsewhere:?}");
    let late = tokens.verify_replica(replica, "ursa-system", issued.expires_at);
    assert_eq!(late, Err(TokenError::Expired));
    let stranger = Tokens::generate().unwrap().issue_replica(&claims, HOUR, now()).unwrap().token;
    assert_eq!(tokens.verify_replica(&stranger, "ursa-system", now()), Err(TokenError::Foreign));

    assert!(matches!(tokens.verify_user(replica, now()), Err(TokenError::Audience(_))));
    assert!(matches!(tokens.verify_dataplane(replica, now()), Err(TokenError::Audience(_))));
    assert!(matches!(tokens.verify_zone(replica, now()), Err(TokenError::Audience(_))));
    let user = UserClaims { name: "admin".into(), groups: vec!["admin".into()] };
    for other in [
        tokens.issue_user(&user, HOUR, now()),
        tokens.issue_dataplane(&self::claims(), HOUR, now()),
        tokens.issue_zone(&ZoneClaims { zone: "east".into(), uid: "u".into() }, HOUR, now()),
    ] {
        let judged = tokens.verify_replica(&other.unwrap().token, "ursa-system", now());
        assert!(matches!(judged, Err(TokenError::Audience(_))), "{judged:?}");
    }
    assert!(matches!(tokens.issue_replica(&claims, HOUR * 2, now()), Err(TokenError::Refused(_))));
    let nobody = ReplicaClaims { replica: String::new(), ..claims };
    assert!(matches!(tokens.issue_replica(&nobody, HOUR, now()), Err(TokenError::Refused(_))));
}

#[test]
fn a_token_without_bounds_is_not_issued() {
    let tokens = Tokens::generate().unwrap();
    let unbound = DataplaneClaims { name: None, services: Vec::new(), ..claims() };
    assert!(matches!(tokens.issue_dataplane(&unbound, HOUR, now()), Err(TokenError::Refused(_))));
    assert!(matches!(tokens.issue_dataplane(&claims(), Duration::ZERO, now()), Err(TokenError::Refused(_))));
    assert!(matches!(tokens.issue_dataplane(&claims(), YEAR * 2, now()), Err(TokenError::Refused(_))));
}

#[test]
fn a_dataplane_is_admitted_only_within_the_claims() {
    let zoned = DataplaneClaims { zone: Some("east".into()), ..claims() };
    assert!(zoned.admits("default", "web-1", &["web"], "east").is_ok());
    for (mesh, name, services, zone) in [
        ("other", "web-1", ["web"], "east"),
        ("default", "web-2", ["web"], "east"),
        ("default", "web-1", ["db"], "east"),
        ("default", "web-1", ["web"], "west"),
    ] {
        assert!(zoned.admits(mesh, name, &services, zone).is_err(), "{mesh} {name} {services:?} {zone}");
    }
}
