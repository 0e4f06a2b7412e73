//! `Secret`.

use ursa_crds::SecretSpec;

use super::Problems;

/// Room for a long chain of certificates.
const LONGEST: usize = 256 * 1024;

pub(super) fn check(spec: &SecretSpec, problems: &mut Problems) {
    let length = spec.value.reveal().len();
    problems.require(length > 0, "spec.value", "must not be empty");
    problems.require(
        length <= LONGEST,
        "spec.value",
        format!("has {length} bytes; at most {LONGEST} are allowed"),
    );
}
