//! Tells who follows insights which proxies to look at again. What is not fetched yet waits as a set, so a slow follower
//! gets the latest state next, and never more than one entry a proxy.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;
use ursa_model::ProxyId;

#[derive(Debug, Default)]
struct Waiting {
    proxies: Mutex<BTreeSet<ProxyId>>,
    some: Notify,
}

/// Proxies of which something has changed since they were fetched last.
#[derive(Debug)]
pub struct News(Arc<Waiting>);

impl News {
    /// Waits until there are some, and returns all of them. Nothing is lost if it is not polled to its end.
    pub async fn next(&mut self) -> BTreeSet<ProxyId> {
        loop {
            let proxies = std::mem::take(&mut *self.0.proxies.lock().unwrap_or_else(PoisonError::into_inner));
            if !proxies.is_empty() {
                return proxies;
            }
            self.0.some.notified().await;
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Subscribers(Mutex<Vec<Weak<Waiting>>>);

impl Subscribers {
    pub(super) fn subscribe(&self) -> News {
        let waiting = Arc::new(Waiting::default());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&waiting));
        News(waiting)
    }

    pub(super) fn tell<'a>(&self, proxies: impl IntoIterator<Item = &'a ProxyId> + Clone) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|subscriber| {
            let Some(waiting) = subscriber.upgrade() else { return false };
            waiting
                .proxies
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(proxies.clone().into_iter().cloned());
            waiting.some.notify_one();
            true
        });
    }
}
