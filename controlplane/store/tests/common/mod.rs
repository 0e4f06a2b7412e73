//! Objects and files that the tests share.
#![allow(clippy::unwrap_used, reason = "a failed set-up fails the test")]
#![allow(dead_code, reason = "each test binary uses a part")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use ursa_crds::{Kind, Object, ObjectKey, decode};
use ursa_store::{OpenError, Store};

/// A permission for this source.
pub(crate) fn permission(name: &str, source: &str) -> Object {
    let yaml = format!(
        "apiVersion: ursamesh.io/v1alpha1\nkind: TrafficPermission\nmetadata: {{name: '{name}'}}\nspec:\n  sources: [{{match: {{ursamesh.io/service: '{source}'}}}}]\n  destinations: [{{match: {{ursamesh.io/service: '*'}}}}]\n"
    );
    decode(yaml.as_bytes()).unwrap()
}

/// The key of such a permission.
pub(crate) fn key(name: &str) -> ObjectKey {
    ObjectKey::in_mesh(Kind::TrafficPermission, "default", name)
}

/// All permissions.
pub(crate) fn list(store: &Store) -> Vec<Arc<Object>> {
    store.list(Kind::TrafficPermission)
}

/// A path for a store in a folder that goes away.
pub(crate) fn file() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    (folder, path)
}

/// Opens a file that these bytes are written to; if it is refused, they must still be there.
pub(crate) fn open_bytes(path: &Path, bytes: &[u8]) -> Result<Store, OpenError> {
    std::fs::write(path, bytes).unwrap();
    let opened = Store::open(path);
    if opened.is_err() {
        assert!(std::fs::read(path).unwrap() == bytes, "a file that is refused is left as it is");
    }
    opened
}
