//! Durations as resources and flags spell them: `5s`, `500ms`, `1h30m`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

const UNITS: [(&str, u64); 4] = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];

/// Why a text is no duration.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a duration: write numbers with the units h, m, s or ms, such as 5s or 500ms")]
pub struct ParseDurationError(String);

/// Reads a duration.
pub fn parse(text: &str) -> Result<Duration, ParseDurationError> {
    millis(text).map(Duration::from_millis).ok_or_else(|| ParseDurationError(text.chars().take(40).collect()))
}

fn millis(text: &str) -> Option<u64> {
    let mut total = 0_u64;
    let mut rest = text;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let (unit, factor) = UNITS.iter().find(|(unit, _)| tail.starts_with(unit))?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*factor)?)?;
        rest = &tail[unit.len()..];
        if rest.is_empty() {
            return Some(total);
        }
    }
}

/// For serde fields.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_resources_spell_them() {
        for (text, expected) in
            [("5s", 5_000), ("500ms", 500), ("1h30m", 5_400_000), ("2m1s5ms", 121_005), ("0s", 0)]
        {
            assert_eq!(parse(text).unwrap(), Duration::from_millis(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in
            ["", "5", "s", "-5s", "5 s", "5s ", "1.5s", "5d", "99999999999999999999s", "9999999999999999999h"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
