//! Conditions of a write: `If-Match`, `If-None-Match` and `metadata.resourceVersion`. A resource's entity tag is its
//! resource version in quotes. Source: RFC 9110 §13.

use axum::http::{HeaderMap, HeaderName, header};
use ursa_crds::ObjectKey;
use ursa_store::StoreError;

use crate::problem::Problem;

/// The version that a write rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    /// What the store must hold; 0: nothing; `None`: anything.
    pub(crate) expected: Option<u64>,
    /// Whether a header said so, and not the body.
    by_header: bool,
}

impl Condition {
    /// From the headers, and the resource version in the body (0: it has none). What is stale already is refused.
    pub(crate) fn new(
        headers: &HeaderMap,
        in_body: u64,
        key: &ObjectKey,
        current: Option<u64>,
    ) -> Result<Self, Problem> {
        let failed = |name: &HeaderName| match current {
            Some(current) => {
                Problem::precondition_failed(format!("{name}: {key} is at version \"{current}\""))
            }
            None => Problem::precondition_failed(format!("{name}: {key} does not exist")),
        };
        let mut header = None;
        if headers.contains_key(header::IF_MATCH) {
            header = Some(
                current
                    .filter(|at| names(headers, &header::IF_MATCH, *at))
                    .ok_or_else(|| failed(&header::IF_MATCH))?,
            );
        }
        if headers.contains_key(header::IF_NONE_MATCH) {
            match current {
                Some(at) if names(headers, &header::IF_NONE_MATCH, at) => {
                    return Err(failed(&header::IF_NONE_MATCH));
                }
                _ => header = header.or(Some(current.unwrap_or_default())),
            }
        }
        match (header, in_body) {
            (Some(at), said) if said > 0 && said != at => Err(stale(key, said, current)),
            (Some(at), _) => Ok(Self { expected: Some(at), by_header: true }),
            (None, 0) => Ok(Self { expected: None, by_header: false }),
            (None, said) => Ok(Self { expected: Some(said), by_header: false }),
        }
    }

    /// What a refusal of the store means to the client.
    pub(crate) fn problem(self, error: StoreError) -> Problem {
        match error {
            StoreError::Conflict { .. } if self.by_header => Problem::precondition_failed(error.to_string()),
            error => error.into(),
        }
    }
}

fn stale(key: &ObjectKey, expected: u64, current: Option<u64>) -> Problem {
    let (key, actual) = (Box::new(key.clone()), current.unwrap_or_default());
    StoreError::Conflict { key, expected, actual }.into()
}

/// Whether the tags in this header name the version. A weak tag never does.
fn names(headers: &HeaderMap, name: &HeaderName, version: u64) -> bool {
    let tag = format!("\"{version}\"");
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).any(|said| said == "*" || said == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(
        headers: &[(HeaderName, &str)],
        in_body: u64,
        current: Option<u64>,
    ) -> Result<Option<u64>, u16> {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        let condition = Condition::new(&headers, in_body, &ObjectKey::mesh("m"), current);
        condition.map(|condition| condition.expected).map_err(|problem| problem.status())
    }

    #[test]
    fn if_match_takes_the_current_version_only() {
        let if_match = |value, current| condition(&[(header::IF_MATCH, value)], 0, current);
        assert_eq!(if_match("\"7\"", Some(7)), Ok(Some(7)));
        assert_eq!(if_match("\"3\", \"7\"", Some(7)), Ok(Some(7)));
        assert_eq!(if_match("*", Some(7)), Ok(Some(7)));
        for stale in ["\"6\"", "7", "W/\"7\"", "\"07\"", ""] {
            assert_eq!(if_match(stale, Some(7)), Err(412), "{stale}");
        }
        assert_eq!(if_match("*", None), Err(412));
        assert_eq!(if_match("\"7\"", None), Err(412));
    }

    #[test]
    fn if_none_match_creates_and_does_not_replace() {
        let if_none = |value, current| condition(&[(header::IF_NONE_MATCH, value)], 0, current);
        assert_eq!(if_none("*", None), Ok(Some(0)));
        assert_eq!(if_none("*", Some(7)), Err(412));
        assert_eq!(if_none("\"7\"", Some(7)), Err(412));
        assert_eq!(if_none("\"6\"", Some(7)), Ok(Some(7)));
    }

    #[test]
    fn the_version_in_the_body_counts_beside_the_header() {
        assert_eq!(condition(&[], 0, Some(7)), Ok(None));
        assert_eq!(condition(&[], 6, Some(7)), Ok(Some(6)), "the store refuses it");
        let both = |tag: &'static str, in_body| condition(&[(header::IF_MATCH, tag)], in_body, Some(7));
        assert_eq!(both("\"7\"", 7), Ok(Some(7)));
        assert_eq!(both("\"7\"", 6), Err(409));
        assert_eq!(both("\"6\"", 7), Err(412));
    }
}
