//! Resources as users send them, and what of them an older version gets.

use ursa_crds::{DecodeError, decode, decode_value, parse_documents, schema};

/// YAML or JSON of any kind: what is accepted survives being stored, and what is refused is refused with words.
pub fn resource(bytes: &[u8]) {
    if let Err(error) = decode(bytes) {
        match error {
            DecodeError::Unreadable(reason) => assert!(!reason.is_empty()),
            DecodeError::Invalid(problem) => assert!(!problem.message.is_empty()),
        }
    }
    for document in parse_documents(bytes).unwrap_or_default() {
        let Ok(object) = decode_value(&document) else { continue };
        let stored = object.to_stored_value();
        let again = decode_value(&stored);
        assert_eq!(again.as_ref().ok(), Some(&object), "{stored} is read as {again:?}");
        for problem in ursa_policy::validate(&object) {
            assert!(!problem.field.is_empty() && !problem.message.is_empty(), "{problem:?}");
        }
        let shown = object.to_value();
        for version in
            (schema::OLDEST..schema::CURRENT).filter(|version| schema::knows(object.kind(), *version))
        {
            let mut sent = shown.clone();
            schema::prune(object.kind(), &mut sent, version);
            assert_eq!(schema::check(object.kind(), &sent, version), Ok(()));
            let taken = decode_value(&sent).map(|object| object.to_value());
            assert_eq!(taken.as_ref(), Ok(&sent), "a copy is what was sent");
        }
        assert!(object.kind().info().name != "Secret" || shown["spec"].get("value").is_none(), "{shown}");
    }
}
