//! Pages of a list. A page goes on after a name, so objects that come or go meanwhile neither double nor hide others.

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::Deserialize;
use serde_json::{Value, json};
use ursa_crds::Object;

use crate::problem::Problem;

/// `?limit=&continue=`: how many at most (all, if it is left out), and where the page before ended.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Paging {
    limit: Option<usize>,
    after: Option<Place>,
}

/// The namespace and name of the last object of a page.
type Place = (String, String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    limit: Option<String>,
    r#continue: Option<String>,
}

impl<S: Sync> FromRequestParts<S> for Paging {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let parameters = Query::try_from_uri(&parts.uri)
            .map_err(|rejection: QueryRejection| Problem::bad_request(rejection.body_text()))?;
        let Query(Parameters { limit, r#continue }) = parameters;
        let limit = limit.map(|text| text.parse().ok().filter(|limit| *limit > 0).ok_or(text)).transpose();
        let limit = limit.map_err(|text| {
            Problem::contradiction("limit", format!("must be a number from 1, and is {text:?}"))
        })?;
        let after = r#continue.map(|text| place(&text).ok_or(())).transpose();
        let after = after.map_err(|()| {
            Problem::contradiction("continue", "must be just as the page before gave it".into())
        })?;
        Ok(Self { limit, after })
    }
}

/// The page of these objects, which are ordered by key and differ in namespace and name only.
pub(crate) fn page<'a>(
    objects: impl Iterator<Item = &'a Object>,
    paging: &Paging,
    shown: impl Fn(&Object) -> Value,
) -> Value {
    let mut rest = objects.filter(|object| {
        let place = (object.meta.namespace.as_str(), object.meta.name.as_str());
        paging.after.as_ref().is_none_or(|(namespace, name)| place > (namespace, name))
    });
    let items: Vec<&Object> = rest.by_ref().take(paging.limit.unwrap_or(usize::MAX)).collect();
    let mut answer = json!({"items": items.iter().map(|object| shown(object)).collect::<Vec<_>>()});
    if rest.next().is_some()
        && let Some(last) = items.last()
    {
        answer["continue"] = json!(token(&last.meta.namespace, &last.meta.name));
    }
    answer
}

/// Hexadecimal, so that nobody takes it for a name or builds one.
fn token(namespace: &str, name: &str) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).expect("half a byte is one digit");
    let text = format!("{namespace}/{name}");
    text.bytes().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn place(token: &str) -> Option<Place> {
    let (pairs, rest) = token.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes = pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
        .collect::<Option<Vec<u8>>>()?;
    let text = String::from_utf8(bytes).ok().filter(|_| rest.is_empty())?;
    let (namespace, name) = text.split_once('/').filter(|(_, name)| !name.is_empty())?;
    Some((namespace.to_owned(), name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    async fn paging(query: &str) -> Result<Paging, String> {
        let (mut parts, ()) = Request::get(format!("/meshes?{query}")).body(()).unwrap().into_parts();
        Paging::from_request_parts(&mut parts, &()).await.map_err(|problem| format!("{problem:?}"))
    }

    fn meshes(names: &[&str]) -> Vec<Object> {
        let yaml =
            |name| format!("apiVersion: ursamesh.io/v1alpha1\nkind: Mesh\nmetadata: {{name: {name}}}\n");
        names.iter().map(|name| ursa_crds::decode(yaml(name).as_bytes()).unwrap()).collect()
    }

    #[tokio::test]
    async fn what_comes_and_goes_between_pages_neither_doubles_nor_hides() {
        let mut names = vec!["a", "b", "c", "d", "e"];
        let mut seen = Vec::new();
        let mut query = "limit=2".to_owned();
        for (gone, come) in [("b", "aa"), ("a", "f"), ("f", "g")] {
            let page = page(meshes(&names).iter(), &paging(&query).await.unwrap(), Object::to_value);
            let items = page["items"].as_array().unwrap();
            seen.extend(items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()));
            query = format!("limit=2&continue={}", page["continue"].as_str().unwrap_or("end"));
            names.retain(|name| *name != gone);
            names.push(come);
            names.sort_unstable();
        }
        assert_eq!(seen, ["a", "b", "c", "d", "e", "f"]);
        assert_eq!(query, "limit=2&continue=end");
    }

    #[tokio::test]
    async fn a_bad_query_is_named() {
        assert_eq!(paging("").await, Ok(Paging::default()));
        for limit in
            ["limit=0", "limit=-1", "limit=", "limit=x", "limit=1.5", "limit=99999999999999999999999"]
        {
            assert!(paging(limit).await.unwrap_err().contains("limit"), "{limit}");
        }
        for token in ["x", "2f6", "2f", "616", "ff2f61", "default/a", ""] {
            assert!(paging(&format!("continue={token}")).await.unwrap_err().contains("continue"), "{token}");
        }
        assert!(paging("limmit=3").await.unwrap_err().contains("limmit"));
        let last = paging(&format!("continue={}", token("", "ä.b"))).await.unwrap();
        assert_eq!(last, Paging { limit: None, after: Some((String::new(), "ä.b".into())) });
    }
}
