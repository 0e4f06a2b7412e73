//! What a client has seen.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::dial::Wire;

/// What a client has seen; written by its task, read by whoever measures.
#[derive(Debug)]
pub struct Seen {
    epoch: Instant,
    /// Nanoseconds from the epoch to the last acknowledgement; 0: none.
    acknowledged: AtomicU64,
    /// The same to when its connection had all that it needs; 0: it has not.
    configured: AtomicU64,
    attempts: AtomicU64,
    responses: AtomicU64,
    resources: AtomicU64,
    bytes: AtomicU64,
    /// Its connections.
    pub wire: Arc<Wire>,
    fault: Mutex<String>,
    probe: Mutex<Option<Probe>>,
    found: Mutex<Vec<Duration>>,
}

/// A cluster whose next endpoints are waited for.
#[derive(Debug)]
struct Probe {
    cluster: String,
    since: Instant,
}

/// Responses so far, what was in them, and how often it has connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Responses.
    pub responses: u64,
    /// Resources in them; removals count too.
    pub resources: u64,
    /// Their bytes, encoded.
    pub bytes: u64,
}

impl std::ops::Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            responses: self.responses + other.responses,
            resources: self.resources + other.resources,
            bytes: self.bytes + other.bytes,
        }
    }
}

impl std::ops::Sub for Counts {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            responses: self.responses - other.responses,
            resources: self.resources - other.resources,
            bytes: self.bytes - other.bytes,
        }
    }
}

impl Seen {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            // What has happened at all happened later than that.
            epoch: Instant::now(),
            acknowledged: AtomicU64::new(0),
            configured: AtomicU64::new(0),
            attempts: AtomicU64::new(0),
            responses: AtomicU64::new(0),
            resources: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            wire: Arc::default(),
            fault: Mutex::default(),
            probe: Mutex::default(),
            found: Mutex::default(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    fn at(&self, of: &AtomicU64) -> Option<Instant> {
        let nanoseconds = of.load(Ordering::Acquire);
        (nanoseconds > 0).then(|| self.epoch + Duration::from_nanos(nanoseconds))
    }

    /// When it acknowledged last, if it has.
    pub fn acknowledged(&self) -> Option<Instant> {
        self.at(&self.acknowledged)
    }

    /// Since when its connection has all that it needs: the first whole configuration, and a certificate.
    pub fn configured(&self) -> Option<Instant> {
        self.at(&self.configured)
    }

    /// How often it has tried to connect.
    pub fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// What has come so far.
    pub fn counts(&self) -> Counts {
        Counts {
            responses: self.responses.load(Ordering::Relaxed),
            resources: self.resources.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    /// Why its last connection ended; empty if none has.
    pub fn fault(&self) -> String {
        locked(&self.fault).clone()
    }

    /// From now on, waits for endpoints of this cluster; false if another wait is not over.
    pub fn watch_for(&self, cluster: String) -> bool {
        let mut probe = locked(&self.probe);
        let free = probe.is_none();
        if free {
            *probe = Some(Probe { cluster, since: Instant::now() });
        }
        free
    }

    /// How long the waits took that are over; they are forgotten.
    pub fn waits(&self) -> Vec<Duration> {
        std::mem::take(&mut *locked(&self.found))
    }

    /// Whether a wait is not over.
    pub fn is_waiting(&self) -> bool {
        locked(&self.probe).is_some()
    }

    pub(crate) fn attempt(&self) {
        self.attempts.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn is_configured(&self) {
        self.configured.store(self.now(), Ordering::Release);
    }

    pub(crate) fn ended(&self, fault: &anyhow::Error) {
        self.configured.store(0, Ordering::Release);
        *locked(&self.fault) = format!("{fault:#}");
    }

    pub(crate) fn received(&self, resources: usize, bytes: usize) {
        self.responses.fetch_add(1, Ordering::Relaxed);
        self.resources.fetch_add(resources as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn has_acknowledged(&self) {
        self.acknowledged.store(self.now(), Ordering::Release);
    }

    pub(crate) fn endpoints_of<'a>(&self, mut clusters: impl Iterator<Item = &'a str>) {
        let mut probe = locked(&self.probe);
        if let Some(found) = probe.take_if(|probe| clusters.any(|cluster| cluster == probe.cluster)) {
            locked(&self.found).push(found.since.elapsed());
        }
    }
}

impl Default for Seen {
    fn default() -> Self {
        Self::new()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
