//! How often a test does the same again.

/// How many rounds: few in every run, many in `make test-long` (`URSA_TEST_LONG=1`).
pub fn rounds(few: usize, many: usize) -> usize {
    let long = std::env::var("URSA_TEST_LONG").is_ok_and(|value| value == "1");
    if long { many } else { few }
}
