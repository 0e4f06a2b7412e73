//! Lists of ports as flags name them: `8080,9000-9010`.
//!
//! Invariant: a list is sorted, and its ranges neither touch nor overlap, so equal sets of ports are equal values.

use std::fmt;
use std::str::FromStr;

/// The ports from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// A set of ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports(Vec<PortRange>);

/// What is wrong with a list of ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortsError {
    /// Neither a port nor a range of them.
    #[error("{0:?} is not a port: ports are 1 to 65535, ranges are written 9000-9010")]
    NotAPort(String),
    /// The range runs backwards.
    #[error("\"{0}-{1}\" ends before it begins: did you mean {1}-{0}?")]
    Backwards(u16, u16),
}

impl PortRange {
    /// One port.
    pub fn one(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// The first port.
    pub fn first(self) -> u16 {
        self.first
    }

    /// The last port, the first one if there is no other.
    pub fn last(self) -> u16 {
        self.last
    }

    /// How the range is written with this sign between its ends.
    pub(crate) fn joined(self, sign: char) -> String {
        let Self { first, last } = self;
        if first == last { first.to_string() } else { format!("{first}{sign}{last}") }
    }
}

impl Ports {
    /// The ranges, in order.
    pub fn ranges(&self) -> &[PortRange] {
        &self.0
    }

    /// Whether the port is one of them.
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|range| (range.first..=range.last).contains(&port))
    }
}

impl FromIterator<PortRange> for Ports {
    fn from_iter<I: IntoIterator<Item = PortRange>>(ranges: I) -> Self {
        let mut ranges: Vec<PortRange> = ranges.into_iter().collect();
        ranges.sort();
        let mut merged: Vec<PortRange> = Vec::new();
        for range in ranges {
            match merged.last_mut() {
                Some(before) if range.first <= before.last.saturating_add(1) => {
                    before.last = before.last.max(range.last);
                }
                _ => merged.push(range),
            }
        }
        Self(merged)
    }
}

impl FromStr for PortRange {
    type Err = PortsError;

    fn from_str(text: &str) -> Result<Self, PortsError> {
        let port = |part: &str| match part.trim().parse::<u16>() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(PortsError::NotAPort(text.to_owned())),
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (port(first)?, port(last)?);
        if last < first { Err(PortsError::Backwards(first, last)) } else { Ok(Self { first, last }) }
    }
}

impl FromStr for Ports {
    type Err = PortsError;

    /// Reads a list; an empty text is an empty list.
    fn from_str(text: &str) -> Result<Self, PortsError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        text.split(',').map(|part| part.trim().parse()).collect()
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.joined('-'))
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges: Vec<String> = self.0.iter().map(PortRange::to_string).collect();
        f.write_str(&ranges.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_and_merged() {
        let ports: Ports = " 9005-9020, 22,9000-9004 ,22,65535".parse().unwrap();
        assert_eq!(ports.to_string(), "22,9000-9020,65535");
        assert!(ports.contains(9020) && !ports.contains(9021));
        assert_eq!("".parse(), Ok(Ports::default()));
    }

    #[test]
    fn an_error_names_the_bad_part() {
        let error = |text: &str| text.parse::<Ports>().unwrap_err().to_string();
        assert!(error("80,90x0").starts_with("\"90x0\" is not a port"), "{}", error("80,90x0"));
        assert!(error("80,,81").starts_with("\"\" is not a port"));
        assert!(error("0").starts_with("\"0\" is not a port"));
        assert!(error("1-65536").starts_with("\"1-65536\" is not a port"));
        assert_eq!(error("9010-9000"), "\"9010-9000\" ends before it begins: did you mean 9000-9010?");
    }

    proptest::proptest! {
        #[test]
        fn what_is_printed_is_read_back(ends in proptest::collection::vec((1..=u16::MAX, 1..=u16::MAX), 0..8)) {
            let ports: Ports = ends.iter().map(|(a, b)| PortRange { first: *a.min(b), last: *a.max(b) }).collect();
            assert_eq!(ports.to_string().parse(), Ok(ports));
        }
    }
}
