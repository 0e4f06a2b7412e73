//! Writes that become durable together: each is judged by what the ones before it in the batch leave behind.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use jiff::Timestamp;
use ursa_crds::{Meta, Object, ObjectKey};
use uuid::Uuid;

use crate::error::StoreError;
use crate::state::State;
use crate::watch::Change;
use crate::writer::{Reply, Request, Restore};
use crate::{Outcome, Written};

/// Answers a writer, or tells it that the disk failed. Refusals wait too: they may rest on a write of the same batch.
pub(crate) type Answer = Box<dyn FnOnce(Option<StoreError>)>;

pub(crate) struct Batch<'a> {
    pub(crate) state: &'a RwLock<State>,
    pub(crate) revision: u64,
    pub(crate) objects: BTreeMap<ObjectKey, Option<Arc<Object>>>,
    pub(crate) private: BTreeMap<String, Vec<u8>>,
    pub(crate) changes: Vec<Change>,
    pub(crate) answers: Vec<Answer>,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(state: &'a RwLock<State>) -> Self {
        let revision = read(state).revision;
        let (objects, private) = (BTreeMap::new(), BTreeMap::new());
        Self { state, revision, objects, private, changes: Vec::new(), answers: Vec::new() }
    }

    /// Adds a write.
    pub(crate) fn take(&mut self, request: Request) {
        match request {
            Request::Put { object, expected, reply } => {
                let result = self.put(*object, expected);
                self.answer(reply, result);
            }
            Request::PutCopy { object, reply } => {
                let written = self.put_copy(*object);
                self.answer(reply, Ok(written));
            }
            Request::Delete { key, expected, reply } => {
                let result = self.delete(&key, expected);
                self.answer(reply, result);
            }
            Request::Restore { restore, reply } => {
                self.restore(*restore);
                self.answer(reply, Ok(()));
            }
            Request::Authority { reply } => self.answer(reply, Ok(BTreeMap::new())),
            Request::Private { name, value, replace, reply } => {
                let stored = self.private(name, value, replace);
                self.answer(reply, Ok(stored));
            }
        }
    }

    fn answer<T: 'static>(&mut self, reply: Reply<T>, result: Result<T, StoreError>) {
        self.answers.push(Box::new(move |failure| {
            // A writer that went away has its write all the same.
            let _ = reply.send(failure.map_or(result, Err));
        }));
    }

    fn put(&mut self, object: Object, expected: Option<u64>) -> Result<Written, StoreError> {
        let key = object.key();
        let current = self.current(&key);
        check(&key, current.as_deref(), expected)?;
        if let Some(current) = &current
            && current.spec == object.spec
            && current.meta.labels == object.meta.labels
            && current.meta.annotations == object.meta.annotations
        {
            return Ok(Written { object: current.clone(), outcome: Outcome::Unchanged });
        }
        let known = current.as_deref().map(|object| &object.meta);
        let changed = current.as_ref().is_none_or(|current| current.spec != object.spec);
        let meta = Meta {
            uid: known.map_or_else(|| Uuid::new_v4().to_string(), |meta| meta.uid.clone()),
            created: known.map_or_else(|| Some(Timestamp::now()), |meta| meta.created),
            generation: known.map_or(0, |meta| meta.generation) + u64::from(changed),
            resource_version: self.revision + 1,
            ..object.meta
        };
        Ok(self.write(key, current.is_some(), Object { meta, spec: object.spec }))
    }

    fn put_copy(&mut self, object: Object) -> Written {
        let key = object.key();
        let current = self.current(&key);
        if let Some(current) = &current {
            let incoming = Meta { resource_version: current.meta.resource_version, ..object.meta.clone() };
            if current.spec == object.spec && current.meta == incoming {
                return Written { object: current.clone(), outcome: Outcome::Unchanged };
            }
        }
        let meta = Meta { resource_version: self.revision + 1, ..object.meta };
        self.write(key, current.is_some(), Object { meta, spec: object.spec })
    }

    /// All of it is in this batch, and so in one transaction.
    fn restore(&mut self, Restore { snapshot, removals, private }: Restore) {
        for key in removals {
            if self.current(&key).is_some() {
                self.change(key, None);
            }
        }
        for object in snapshot.objects {
            self.put_copy(object);
        }
        for (name, value) in snapshot.private.into_iter().chain(private) {
            self.private(name, value.into_bytes(), true);
        }
    }

    fn write(&mut self, key: ObjectKey, existed: bool, mut object: Object) -> Written {
        read(self.state).outbounds.share(&mut object);
        let outcome = if existed { Outcome::Updated } else { Outcome::Created };
        let object = Arc::new(object);
        self.change(key, Some(object.clone()));
        Written { object, outcome }
    }

    fn delete(&mut self, key: &ObjectKey, expected: Option<u64>) -> Result<Arc<Object>, StoreError> {
        let current = self.current(key);
        check(key, current.as_deref(), expected)?;
        let current = current.ok_or_else(|| StoreError::NotFound(Box::new(key.clone())))?;
        self.change(key.clone(), None);
        Ok(current)
    }

    fn private(&mut self, name: String, value: Vec<u8>, replace: bool) -> Vec<u8> {
        if !replace {
            let stored = self.private.get(&name).cloned();
            if let Some(stored) = stored.or_else(|| read(self.state).private.get(&name).cloned()) {
                return stored;
            }
        }
        self.private.insert(name, value.clone());
        value
    }

    fn current(&self, key: &ObjectKey) -> Option<Arc<Object>> {
        match self.objects.get(key) {
            Some(object) => object.clone(),
            None => read(self.state).objects.get(key).cloned(),
        }
    }

    fn change(&mut self, key: ObjectKey, object: Option<Arc<Object>>) {
        self.revision += 1;
        self.changes.push(Change { key: key.clone(), object: object.clone(), revision: self.revision });
        self.objects.insert(key, object);
    }
}

fn read(state: &RwLock<State>) -> RwLockReadGuard<'_, State> {
    state.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn check(
    key: &ObjectKey,
    current: Option<&Object>,
    expected: Option<u64>,
) -> Result<(), StoreError> {
    let actual = current.map_or(0, |object| object.meta.resource_version);
    match expected {
        Some(expected) if expected != actual => {
            Err(StoreError::Conflict { key: Box::new(key.clone()), expected, actual })
        }
        _ => Ok(()),
    }
}
