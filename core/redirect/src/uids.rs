//! Lists of users as flags name them: `101,65534`.
//!
//! Invariant: a list is sorted and names nobody twice, so equal sets of users are equal values.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// A set of users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uids(BTreeSet<u32>);

/// A part of a list is no user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a user's number: write it as `id --user NAME` prints it, such as 101")]
pub struct UidsError(String);

impl Uids {
    /// The users, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().copied()
    }
}

impl FromStr for Uids {
    type Err = UidsError;

    /// Reads a list; an empty text is an empty list.
    fn from_str(text: &str) -> Result<Self, UidsError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let uid = |part: &str| match part.trim().parse() {
            Ok(uid) if uid != u32::MAX => Ok(uid), // That one means nobody, to the kernel.
            _ => Err(UidsError(part.trim().to_owned())),
        };
        text.split(',').map(uid).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Uids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uids: Vec<String> = self.0.iter().map(u32::to_string).collect();
        f.write_str(&uids.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_and_without_repetition() {
        let uids: Uids = " 65534, 101,0,101".parse().unwrap();
        assert_eq!(uids.to_string(), "0,101,65534");
        assert_eq!("".parse(), Ok(Uids::default()));
    }

    #[test]
    fn an_error_names_the_bad_part() {
        for (text, part) in [("101,dns", "dns"), ("1,,2", ""), ("-1", "-1"), ("4294967295", "4294967295")] {
            let error = text.parse::<Uids>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{part:?} is not a user's number")), "{error}");
        }
    }
}
