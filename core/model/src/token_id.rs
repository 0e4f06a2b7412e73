//! Which data-plane token a workload's certificate was signed on: a private extension of the certificate, so that every replica
//! can tell, also after a restart.

/// The extension's object identifier, below the arc that needs no registration.
/// Source: ITU-T X.667, clause 7.
pub const TOKEN_ID_OID: [u64; 3] = [2, 25, 972_808_990_204_499_460];

/// The tag of a DER `UTF8String`.
const UTF8_STRING: u8 = 0x0c;

/// The extension's value, a DER `UTF8String`; `None` if the id is empty or longer than 64 bytes, which none is.
pub fn encode_token_id(id: &str) -> Option<Vec<u8>> {
    let length = u8::try_from(id.len()).ok().filter(|length| (1..=64).contains(length))?;
    Some([&[UTF8_STRING, length], id.as_bytes()].concat())
}

/// The id in the extension's value; `None` if it is not one.
pub fn decode_token_id(value: &[u8]) -> Option<&str> {
    let (&[UTF8_STRING, length], id) = value.split_first_chunk()? else { return None };
    (usize::from(length) == id.len() && (1..=64).contains(&length)).then(|| str::from_utf8(id).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_was_written() {
        for id in ["a", "0123456789abcdef0123456789abcdef", &"x".repeat(64)] {
            let value = encode_token_id(id).unwrap();
            assert_eq!(decode_token_id(&value), Some(id));
            assert_eq!(decode_token_id(&value[..value.len() - 1]), None, "cut");
            assert_eq!(decode_token_id(&[&value[..], b"x"].concat()), None, "more");
        }
        assert_eq!((encode_token_id(""), encode_token_id(&"x".repeat(65))), (None, None));
        for wrong in [&b""[..], b"\x0c", b"\x0c\x00", b"\x04\x01a", b"\x0c\x01\xff"] {
            assert_eq!(decode_token_id(wrong), None, "{wrong:?}");
        }
    }
}
