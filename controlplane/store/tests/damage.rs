//! A file that is not what was written is refused with a message, never taken for an empty or an older store.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;

use common::{file, key, list, open_bytes, permission};
use ursa_store::{OpenError, Store};

/// The bytes of a store after a clean end, and as `kill -9` leaves it.
async fn stores(path: &Path) -> [Vec<u8>; 2] {
    let _ = std::fs::remove_file(path);
    let store = Store::open(path).unwrap();
    for number in 0..60 {
        store.put(permission(&format!("p{number:02}"), "a"), None).await.unwrap();
    }
    store.private_put("k", vec![7; 100]).await.unwrap();
    store.delete(&key("p07"), None).await.unwrap();
    let killed = std::fs::read(path).unwrap();
    drop(store);
    [std::fs::read(path).unwrap(), killed]
}

fn assert_refused(path: &Path, bytes: &[u8], what: &str) {
    let error = open_bytes(path, bytes).expect_err(what).to_string();
    assert!(
        error.contains("store.redb: the store is damaged: ") && error.contains("backup"),
        "{what}: {error}"
    );
}

#[tokio::test]
async fn a_truncated_file_is_refused() {
    let (_folder, path) = file();
    for (bytes, kind) in stores(&path).await.iter().zip(["ended", "killed"]) {
        assert_eq!(list(&open_bytes(&path, bytes).unwrap()).len(), 59);
        let whole = bytes.len();
        for length in
            [0, 1, 8, 9, 10, 63, 100, 320, 4095, 4096, 8192, whole / 3, whole / 2, whole - 4096, whole - 1]
        {
            assert_refused(&path, &bytes[..length], &format!("{kind}, {length} of {whole} bytes"));
        }
    }
}

#[tokio::test]
async fn a_file_of_something_else_is_refused() {
    let (_folder, path) = file();
    assert_refused(&path, b"something else", "text");
    assert_refused(&path, &[0; 8192], "zeros");
    let [ended, _] = stores(&path).await;
    let mut zeros = ended.clone();
    zeros[..4096].fill(0);
    assert_refused(&path, &zeros, "a header of zeros");
    let mut longer = ended;
    longer.push(0);
    assert_refused(&path, &longer, "a byte too many");
}

/// Every byte of the header, and bytes all over the rest: what is there is refused, or is just what was written (the
/// byte belongs to no page that is in use).
#[tokio::test]
async fn a_flipped_bit_is_refused_or_does_not_matter() {
    let (_folder, path) = file();
    for (bytes, kind) in stores(&path).await.iter().zip(["ended", "killed"]) {
        let held = |store: &Store| (list(store), store.revision(), store.private("k"));
        let written = held(&open_bytes(&path, bytes).unwrap());
        let header = (0..320).map(|position| (position, 1_u8 << (position % 8)));
        // One bit of the file is beyond us: which of the two newest commits counts, in a file that was not closed.
        let flags = (1..8).map(|bit| (9, 1_u8 << bit));
        let rest = (320..bytes.len()).step_by(bytes.len() / 60).map(|position| (position, 0xff));
        let mut refused = 0;
        for (position, flip) in header.chain(flags).chain(rest) {
            let mut broken = bytes.clone();
            broken[position] ^= flip;
            match open_bytes(&path, &broken) {
                Ok(store) => assert_eq!(held(&store), written, "{kind}, byte {position}"),
                Err(OpenError::Damaged { .. }) => refused += 1,
                Err(error) => panic!("{kind}, byte {position}: {error}"),
            }
        }
        assert!(refused > 50, "{kind}: {refused}");
    }
}

/// The pages that hold an object: a change in any of them must be noticed, also in those of the newest commit.
#[tokio::test]
async fn a_change_in_a_stored_object_is_refused() {
    let (_folder, path) = file();
    for (bytes, kind) in stores(&path).await.iter().zip(["ended", "killed"]) {
        let newest: Vec<usize> = positions(bytes, br#""name":"p59""#);
        assert!(!newest.is_empty());
        let mut broken = bytes.clone();
        for position in newest {
            broken[position + 9] = b'9';
        }
        assert_refused(&path, &broken, kind);
    }
}

#[tokio::test]
async fn the_format_of_another_version_is_named() {
    let (_folder, path) = file();
    drop(Store::open(&path).unwrap());
    let database = redb::Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let facts: redb::TableDefinition<'_, &str, &str> = redb::TableDefinition::new("facts");
    transaction.open_table(facts).unwrap().insert("format", "ursa-store/7").unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = Store::open(&path).unwrap_err().to_string();
    assert!(error.contains("store.redb") && error.contains("\"ursa-store/7\""), "{error}");
}

fn positions(bytes: &[u8], part: &[u8]) -> Vec<usize> {
    (0..bytes.len() - part.len()).filter(|at| &bytes[*at..at + part.len()] == part).collect()
}
