//! Tags as an annotation says them: `version=v2,example.com/cloud=aws`.

use ursa_crds::Tags;
use ursa_model::SpiffeId;

use crate::names::PREFIX;

/// Reads the annotation `ursamesh.io/tags`; the error says what would be right.
pub fn parse_tags(value: &str) -> Result<Tags, String> {
    let mut tags = Tags::new();
    for tag in value.split(',') {
        let (key, value) =
            tag.split_once('=').ok_or_else(|| format!("{tag:?} is no tag: write key=value,key=value"))?;
        let (key, value) = (key.trim(), value.trim());
        if !is_key(key) {
            return Err(format!("the key {key:?} must be like a label key of Kubernetes"));
        }
        if key.starts_with(PREFIX) {
            return Err(format!("the tag {key} is not set by hand: leave it out"));
        }
        if !SpiffeId::is_segment(value) {
            return Err(format!("the value {value:?} of tag {key} must be 1 to 253 of [A-Za-z0-9._-]"));
        }
        if tags.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(format!("the tag {key} is there twice: leave one out"));
        }
    }
    Ok(tags)
}

/// A key with an optional DNS subdomain before a slash.
/// Source: <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>.
fn is_key(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let subdomain = |text: &str| (1..=253).contains(&text.len()) && text.split('.').all(SpiffeId::is_label);
    let edges = [name.bytes().next(), name.bytes().last()];
    prefix.is_none_or(subdomain)
        && name.len() <= 63
        && SpiffeId::is_segment(name)
        && edges.iter().all(|b| b.is_some_and(|b| b.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_with_spaces_around_them() {
        let tags = parse_tags(" version = v2 ,example.com/cloud=aws").unwrap();
        let pairs: Vec<(&str, &str)> =
            tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("example.com/cloud", "aws"), ("version", "v2")]);
    }

    #[test]
    fn what_is_no_tag_is_refused() {
        for text in ["", ",", "a", "=b", "a=", "a=b,", "-a=b", "a/b/c=d", "A_/b=c", "a=b c", "a=1,a=1"] {
            assert!(parse_tags(text).is_err(), "{text:?}");
        }
    }
}
