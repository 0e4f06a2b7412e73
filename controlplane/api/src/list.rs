//! Pages of a list. A page goes on after a name, so objects that come or go meanwhile neither double nor hide others.

use serde::Deserialize;
use serde_json::{Value, json};
use ursa_crds::Object;

use crate::problem::Problem;

/// The longest page.
const LONGEST: usize = 1_000;
const DEFAULT: usize = 100;

/// `?limit=&continue=`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Paging {
    limit: Option<usize>,
    r#continue: Option<String>,
}

/// The page of these objects, which are ordered by key and differ in namespace and name only.
pub(crate) fn page<'a>(objects: impl Iterator<Item = &'a Object>, paging: &Paging) -> Result<Value, Problem> {
    let limit = paging.limit.unwrap_or(DEFAULT);
    if !(1..=LONGEST).contains(&limit) {
        return Err(Problem::contradiction("limit", format!("must be between 1 and {LONGEST}")));
    }
    let after = match &paging.r#continue {
        None => None,
        Some(text) => Some(text.split_once('/').ok_or_else(|| {
            Problem::contradiction("continue", "must be as the page before gave it".into())
        })?),
    };
    let name = |object: &Object| (object.meta.namespace.clone(), object.meta.name.clone());
    let mut rest = objects.filter(|object| {
        after.is_none_or(|(namespace, last)| {
            (object.meta.namespace.as_str(), object.meta.name.as_str()) > (namespace, last)
        })
    });
    let items: Vec<&Object> = rest.by_ref().take(limit).collect();
    let mut answer = json!({"items": items.iter().map(|object| object.to_value()).collect::<Vec<_>>()});
    if rest.next().is_some()
        && let Some(last) = items.last()
    {
        let (namespace, name) = name(last);
        answer["continue"] = json!(format!("{namespace}/{name}"));
    }
    Ok(answer)
}
