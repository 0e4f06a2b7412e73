//! The file: a redb database with one table for objects, one for private values, one for the store's own facts.
//!
//! At open a copy of the file in memory is verified and read whole before the file itself is touched: the database
//! repairs what it opens, so a file that is refused once would be accepted, without what was lost, the next time.
//! Invariant: a file that is refused is left as it was, byte for byte.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{Builder, Database, ReadTransaction, ReadableDatabase as _, ReadableTable as _, StorageBackend};
use redb::{Key, ReadOnlyTable, TableDefinition, Value};
use ursa_crds::{Object, ObjectKey};
use uuid::Uuid;

use crate::error::OpenError;
use crate::record;
use crate::shared::Outbounds;

const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
const PRIVATE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("private");
const FACTS: TableDefinition<'_, &str, &str> = TableDefinition::new("facts");
const FORMAT: &str = "ursa-store/1";
/// Of this control plane.
const VERSION: &str = env!("CARGO_PKG_VERSION");
const MODE: u32 = 0o600;

/// What a file holds.
#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) epoch: String,
    pub(crate) revision: u64,
    pub(crate) objects: BTreeMap<ObjectKey, Arc<Object>>,
    pub(crate) private: BTreeMap<String, Vec<u8>>,
    pub(crate) outbounds: Outbounds,
}

/// An entry to write; `None`: to remove.
pub(crate) type Entry = (String, Option<Vec<u8>>);

/// An open file; no other process can open it.
#[derive(Debug)]
pub(crate) struct Disk {
    database: Database,
    /// Of what is written.
    pub(crate) schema: u32,
}

/// Why the bytes of a file are not taken; the path is added where it is known.
enum Refusal {
    Damaged(String),
    Format(String),
    /// Of a later schema, by this version.
    Later(u32, String),
}

impl Refusal {
    fn at(self, path: &Path, schema: u32) -> OpenError {
        let path = path.to_owned();
        match self {
            Self::Damaged(reason) => OpenError::Damaged { path, reason },
            Self::Format(found) => OpenError::Format { path, found, expected: FORMAT },
            Self::Later(found, version) => OpenError::Later { path, found, version, understood: schema },
        }
    }
}

fn damaged(error: impl std::fmt::Display) -> Refusal {
    Refusal::Damaged(error.to_string())
}

impl Disk {
    /// Opens or makes the file, and reads everything.
    pub(crate) fn open(path: &Path, schema: u32) -> Result<(Self, Contents), OpenError> {
        let failed = |source| OpenError::Io { path: path.to_owned(), source };
        let existing = || OpenOptions::new().read(true).write(true).open(path);
        let file = match existing() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(path, schema).map_err(failed)?;
                existing()
            }
            other => other,
        }
        .map_err(failed)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::Busy { path: path.to_owned() },
            TryLockError::Error(source) => failed(source),
        })?;
        restrict(&file, path).map_err(failed)?;
        let mut bytes = Vec::new();
        (&file).read_to_end(&mut bytes).map_err(failed)?;
        let (contents, writer) =
            contained(|| verify(&bytes, schema)).map_err(|refusal| refusal.at(path, schema))?;
        drop(bytes);
        let database = contained(|| {
            let backend = FileBackend::new(file).map_err(damaged)?;
            Builder::new().create_with_backend(backend).map_err(damaged)
        })
        .map_err(|refusal| refusal.at(path, schema))?;
        if writer != (schema, VERSION.to_owned()) {
            // From here on it holds what earlier versions do not know.
            write(&database, &[], &[], &by(&schema.to_string())).map_err(io::Error::other).map_err(failed)?;
        }
        Ok((Self { database, schema }, contents))
    }

    /// Makes all of it durable, or nothing.
    pub(crate) fn write(
        &self,
        objects: &[Entry],
        private: &[Entry],
        revision: u64,
    ) -> Result<(), redb::Error> {
        write(&self.database, objects, private, &[("revision", &revision.to_string())])
    }
}

/// Makes an empty store. It is written under another name first, so that a crash leaves either no store or a whole one.
fn make(path: &Path, schema: u32) -> io::Result<()> {
    let mut name = path.file_name().ok_or_else(|| io::Error::other("it is no name of a file"))?.to_owned();
    name.push(format!(".{}.new", Uuid::new_v4()));
    let temporary = path.with_file_name(name);
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(MODE).open(&temporary)?;
    let made = initialise(file, schema).map_err(io::Error::other).and_then(|()| {
        // Unlike a rename, a link never replaces what another process has made in the meantime.
        match std::fs::hard_link(&temporary, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.exists() => Ok(()),
            other => other,
        }
    });
    std::fs::remove_file(&temporary)?;
    made?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// The facts that say who writes it.
fn by(schema: &str) -> [(&'static str, &str); 2] {
    [("schema", schema), ("version", VERSION)]
}

fn initialise(file: File, schema: u32) -> Result<(), redb::Error> {
    let database = Builder::new().create_with_backend(FileBackend::new(file)?)?;
    let epoch = Uuid::new_v4().to_string();
    let facts = [("format", FORMAT), ("epoch", epoch.as_str()), ("revision", "0")];
    write(&database, &[], &[], &[&facts[..], &by(&schema.to_string())].concat())
}

fn write(
    database: &Database,
    objects: &[Entry],
    private: &[Entry],
    facts: &[(&str, &str)],
) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    // With one phase, a newest commit that is found damaged after a crash is taken for one that was never finished,
    // and the store would go back to the one before it.
    transaction.set_two_phase_commit(true);
    for (definition, entries) in [(OBJECTS, objects), (PRIVATE, private)] {
        let mut table = transaction.open_table(definition)?;
        for (name, value) in entries {
            match value {
                Some(value) => table.insert(name.as_str(), value.as_slice()).map(drop)?,
                None => table.remove(name.as_str()).map(drop)?,
            }
        }
    }
    {
        let mut table = transaction.open_table(FACTS)?;
        for (name, value) in facts {
            table.insert(name, value)?;
        }
    }
    transaction.commit()?;
    Ok(())
}

/// It holds keys: a copy that was restored with wider permissions is narrowed.
fn restrict(file: &File, path: &Path) -> io::Result<()> {
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), mode = format!("{mode:o}"), "the store was open to other users; narrowed");
        file.set_permissions(Permissions::from_mode(MODE))?;
    }
    Ok(())
}

/// The database promises no panic when it checks everything, but an error is what we owe.
fn contained<T>(work: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(damaged("its pages are broken")))
}

/// Checks every page's checksum and reads every value; with the schema and the version that wrote it last.
fn verify(bytes: &[u8], understood: u32) -> Result<(Contents, (u32, String)), Refusal> {
    if bytes.is_empty() {
        return Err(damaged("it is empty"));
    }
    let copy = InMemoryBackend::new();
    copy.set_len(bytes.len() as u64).map_err(damaged)?;
    StorageBackend::write(&copy, 0, bytes).map_err(damaged)?;
    let database =
        Builder::new().set_check_integrity_on_open(true).create_with_backend(copy).map_err(damaged)?;
    let transaction = database.begin_read().map_err(damaged)?;
    let facts = table(&transaction, FACTS)?;
    let said = |name: &str| -> Result<Option<String>, Refusal> {
        Ok(facts.get(name).map_err(damaged)?.map(|value| value.value().to_owned()))
    };
    let fact = |name: &str| said(name)?.ok_or_else(|| damaged(format!("it does not say its {name}")));
    let format = fact("format")?;
    if format != FORMAT {
        return Err(Refusal::Format(format));
    }
    // Versions that knew the first schema only did not say it.
    let schema = said("schema")?.unwrap_or_else(|| "1".into());
    let schema: u32 = schema.parse().map_err(|_| damaged("its schema is not a number"))?;
    let writer = (schema, said("version")?.unwrap_or_default());
    if schema > understood {
        return Err(Refusal::Later(schema, writer.1));
    }
    let revision = fact("revision")?.parse().map_err(|_| damaged("its revision is not a number"))?;
    let mut contents = Contents { epoch: fact("epoch")?, revision, ..Contents::default() };
    for entry in table(&transaction, OBJECTS)?.iter().map_err(damaged)? {
        let (name, value) = entry.map_err(damaged)?;
        let (name, value) = (name.value(), value.value());
        let mut object = record::decode(value).map_err(|error| damaged(format!("{name}: {error}")))?;
        let key = object.key();
        if record::name(&key) != name {
            return Err(damaged(format!("{name} holds {key}")));
        }
        contents.outbounds.share(&mut object);
        contents.objects.insert(key, Arc::new(object));
    }
    for entry in table(&transaction, PRIVATE)?.iter().map_err(damaged)? {
        let (name, value) = entry.map_err(damaged)?;
        contents.private.insert(name.value().to_owned(), value.value().to_vec());
    }
    Ok((contents, writer))
}

fn table<K: Key + 'static, V: Value + 'static>(
    transaction: &ReadTransaction,
    definition: TableDefinition<'_, K, V>,
) -> Result<ReadOnlyTable<K, V>, Refusal> {
    transaction.open_table(definition).map_err(damaged)
}
