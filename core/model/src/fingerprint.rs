//! Stable fingerprints of model parts: the versions of xDS resources.

use std::fmt;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// 128 bits of the SHA-256 of a value's JSON form; equal on every replica and after every restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 16]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(digit.into(), 16).expect("half a byte is a hexadecimal digit"));
        }
        text
    })
}

/// The fingerprint of a value. Maps in it must be ordered (`BTreeMap`).
pub fn fingerprint<T: Serialize + ?Sized>(value: &T) -> Fingerprint {
    let mut hasher = Sha256::new();
    serde_json::to_writer(Writer(&mut hasher), value)
        .expect("model types have string keys and do not fail to serialize");
    let digest: [u8; 32] = hasher.finalize().into();
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    Fingerprint(short)
}

struct Writer<'a>(&'a mut Sha256);

impl std::io::Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
