//! What another replica of the same control plane says of the proxies that it knows.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use ursa_model::ProxyId;

use crate::writer::Event;
use crate::{Index, ProxyInsight};

/// A replica whose stream ended is heard of again within this time, or is not heard of.
pub(crate) const UNHEARD_AFTER: Duration = Duration::from_secs(5);

/// A replica that is heard of, as long as the value lives and is the newest of that replica.
#[derive(Debug)]
pub struct Hearing {
    index: Index,
    replica: String,
    stream: u64,
}

impl Hearing {
    pub(crate) fn new(index: &Index, replica: &str) -> Self {
        let stream = index.insights.joined(replica);
        Self { index: index.clone(), replica: replica.to_owned(), stream }
    }

    /// What it has said so far that still counts, by proxy, in which version.
    pub fn held(&self) -> BTreeMap<ProxyId, String> {
        self.index.insights.said(&self.replica)
    }

    /// Takes what it says; false: it has a newer stream, and this one does not count.
    #[must_use]
    pub fn take(&self, upserts: Vec<(ProxyId, String, ProxyInsight)>, removals: Vec<ProxyId>) -> bool {
        let changed = self.index.insights.take(&self.replica, self.stream, upserts, removals);
        let counts = changed.is_some();
        for (proxy, more) in changed.into_iter().flatten() {
            self.index.send(if more { Event::Heard(proxy) } else { Event::Counted(proxy) });
        }
        counts
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        let (replica, stream) = (std::mem::take(&mut self.replica), self.stream);
        self.index.send(Event::Unheard { replica, stream, since: Timestamp::now() });
    }
}
