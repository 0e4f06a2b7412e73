//! Who of several replicas acts: the holder of a Lease.
//!
//! Clocks of different nodes are not compared: a Lease has expired once *this* process has seen it unchanged for as long as
//! it says. Each write names the version that it was decided on, so of two who decide at once one is refused.
//! Invariant: whoever could not renew in time is told so before another one can take over.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

/// After this long without a renewal another one may take over.
const DURATION: Duration = Duration::from_secs(15);
/// After this long without a renewal the holder gives up by itself.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often it is tried, by holders and others.
const RETRY: Duration = Duration::from_secs(2);

/// How often one that takes no part any more looks who does.
const LOOK: Duration = Duration::from_millis(500);

/// Annotation of a Lease: where its holder is reached by the other candidates, `HOST:PORT`.
const ADDRESS: &str = "ursamesh.io/holder-address";

/// Who holds a Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its identity.
    pub identity: String,
    /// Where the other candidates reach it, if it says so.
    pub address: Option<String>,
}

impl Holder {
    fn of(lease: &Lease) -> Option<Self> {
        let identity =
            lease.spec.as_ref()?.holder_identity.clone().filter(|identity| !identity.is_empty())?;
        let address = lease.metadata.annotations.as_ref().and_then(|all| all.get(ADDRESS)).cloned();
        Some(Self { identity, address })
    }
}

/// A candidate for a Lease.
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    sight: Sight,
    holder: watch::Sender<Option<Holder>>,
}

impl std::fmt::Debug for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Candidate")
            .field("name", &self.name)
            .field("sight", &self.sight)
            .finish_non_exhaustive()
    }
}

/// What a candidate knows of the Lease.
#[derive(Clone, Debug)]
struct Sight {
    identity: String,
    /// Where the other candidates reach it.
    address: Option<String>,
    /// The version that was seen last, and since when.
    seen: Option<(String, Instant)>,
}

/// What to do about the Lease as it is.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// Write this.
    Write(Box<Lease>),
    /// Another one holds it.
    Wait,
}

impl Sight {
    /// Pure, but for what is remembered of the version.
    fn step(&mut self, found: Option<&Lease>, now: Instant, time: Timestamp) -> Step {
        let Some(lease) = found else { return self.hold(None, time) };
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let since = match &self.seen {
            Some((seen, since)) if *seen == version => *since,
            _ => {
                self.seen = Some((version, now));
                now
            }
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.unwrap_or_default();
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let lasts = seconds.map_or(DURATION, Duration::from_secs);
        if holder.is_empty() || holder == self.identity || now.duration_since(since) >= lasts {
            return self.hold(Some(lease), time);
        }
        Step::Wait
    }

    /// The Lease with this candidate as the holder; the version, if there is one, is that which was found.
    fn hold(&self, found: Option<&Lease>, time: Timestamp) -> Step {
        let before = found.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let held = before.holder_identity.as_deref() == Some(self.identity.as_str());
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: if held { before.acquire_time } else { Some(MicroTime(time)) },
            renew_time: Some(MicroTime(time)),
            lease_transitions: Some(
                before.lease_transitions.unwrap_or_default() + i32::from(!held && found.is_some()),
            ),
            ..LeaseSpec::default()
        };
        let mut metadata = found.map(|lease| lease.metadata.clone()).unwrap_or_default();
        let mut annotations = metadata.annotations.take().unwrap_or_default();
        annotations.remove(ADDRESS);
        annotations.extend(self.address.clone().map(|address| (ADDRESS.to_owned(), address)));
        metadata.annotations = Some(annotations).filter(|annotations| !annotations.is_empty());
        Step::Write(Box::new(Lease { metadata, spec: Some(spec) }))
    }
}

impl Candidate {
    /// For the Lease of this name; the identity is one of a kind.
    pub fn new(client: Client, namespace: &str, name: &str, identity: String) -> Self {
        let sight = Sight { identity, address: None, seen: None };
        let holder = watch::Sender::new(None);
        Self { api: Api::namespaced(client, namespace), name: name.to_owned(), sight, holder }
    }

    /// With an address that the other candidates are told while this one holds the Lease: `HOST:PORT`.
    #[must_use]
    pub fn at(mut self, address: Option<String>) -> Self {
        self.sight.address = address;
        self
    }

    /// Who holds the Lease, as it was seen last: it is looked at for taking it over anyway.
    pub fn holder(&self) -> watch::Receiver<Option<Holder>> {
        self.holder.subscribe()
    }

    /// Waits until it holds the Lease; `on_wait` is called while another one does.
    pub async fn acquire(&mut self, on_wait: impl Fn()) {
        loop {
            match self.attempt().await {
                Ok(true) => {
                    info!(identity = self.sight.identity, "leading");
                    return;
                }
                Ok(false) => on_wait(),
                Err(error) => warn!(%error, "the Lease cannot be read or written; trying again"),
            }
            sleep(RETRY).await;
        }
    }

    /// Renews the Lease until it is lost.
    pub async fn keep(&mut self) {
        let mut renewed = Instant::now();
        loop {
            sleep(RETRY).await;
            let begun = Instant::now();
            match timeout(DEADLINE.saturating_sub(renewed.elapsed()), self.attempt()).await {
                Ok(Ok(true)) => renewed = begun,
                Ok(Ok(false)) => return warn!("another one holds the Lease"),
                Ok(Err(error)) => warn!(%error, "the Lease is not renewed; trying again"),
                Err(_) => return warn!("the Lease was not renewed in time"),
            }
            if renewed.elapsed() >= DEADLINE {
                return warn!("the Lease was not renewed in time");
            }
        }
    }

    /// Gives the Lease up, so that another one need not wait. Nobody holds it from then on, as far as this one knows.
    pub async fn release(&mut self) {
        self.saw(None);
        let Ok(Ok(Some(mut lease))) = timeout(RETRY, self.api.get_opt(&self.name)).await else { return };
        let Some(spec) = lease.spec.as_mut() else { return };
        if spec.holder_identity.as_deref() != Some(self.sight.identity.as_str()) {
            return;
        }
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(1);
        if let Some(annotations) = &mut lease.metadata.annotations {
            annotations.remove(ADDRESS);
        }
        let released = timeout(RETRY, self.api.replace(&self.name, &PostParams::default(), &lease)).await;
        debug!(ok = matches!(released, Ok(Ok(_))), "the Lease is given up");
    }

    /// Sees who holds the Lease, for as long as it is polled, and does not take it.
    pub async fn watch(&mut self) {
        loop {
            match self.api.get_opt(&self.name).await {
                Ok(found) => self.saw(found.as_ref()),
                Err(error) => debug!(%error, "the Lease cannot be read"),
            }
            sleep(LOOK).await;
        }
    }

    fn saw(&self, lease: Option<&Lease>) {
        let holder = lease.and_then(Holder::of);
        self.holder.send_if_modified(|known| {
            let news = *known != holder;
            *known = holder;
            news
        });
    }

    /// Whether it holds the Lease now.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let found = self.api.get_opt(&self.name).await?;
        let Step::Write(mut lease) = self.sight.step(found.as_ref(), Instant::now(), Timestamp::now()) else {
            self.saw(found.as_ref());
            return Ok(false);
        };
        let written = if found.is_some() {
            self.api.replace(&self.name, &PostParams::default(), &lease).await
        } else {
            let annotations = lease.metadata.annotations.take();
            lease.metadata =
                ObjectMeta { name: Some(self.name.clone()), annotations, ..ObjectMeta::default() };
            self.api.create(&PostParams::default(), &lease).await
        };
        match written {
            Ok(held) => {
                self.saw(Some(&held));
                Ok(true)
            }
            // Another one was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(identity: &str) -> Sight {
        Sight { identity: identity.to_owned(), address: None, seen: None }
    }

    /// The Lease as the API server keeps it after a write.
    fn stored(step: Step, version: &str) -> Lease {
        let Step::Write(mut lease) = step else { panic!("nothing is written") };
        lease.metadata.resource_version = Some(version.to_owned());
        *lease
    }

    fn holder(lease: &Lease) -> Option<&str> {
        lease.spec.as_ref()?.holder_identity.as_deref()
    }

    #[test]
    fn the_first_takes_it_and_the_second_waits_until_it_has_not_changed_for_its_duration() {
        let (start, time) = (Instant::now(), Timestamp::UNIX_EPOCH);
        let (mut a, mut b) = (sight("a"), sight("b"));
        let mut lease = stored(a.step(None, start, time), "1");
        assert_eq!(b.step(Some(&lease), start, time), Step::Wait);
        // Renewed after 14 s: the 15 s begin anew.
        lease = stored(a.step(Some(&lease), start + Duration::from_secs(14), time), "2");
        assert_eq!(b.step(Some(&lease), start + Duration::from_secs(16), time), Step::Wait);
        assert_eq!(b.step(Some(&lease), start + Duration::from_secs(30), time), Step::Wait);
        let taken = b.step(Some(&lease), start + Duration::from_secs(31), time);
        let lease = stored(taken, "3");
        assert_eq!(holder(&lease), Some("b"));
        assert_eq!(lease.spec.as_ref().and_then(|spec| spec.lease_transitions), Some(1));
        assert_eq!(a.step(Some(&lease), start + Duration::from_secs(31), time), Step::Wait);
    }

    #[test]
    fn clocks_of_others_do_not_count() {
        let start = Instant::now();
        let lease = stored(sight("a").step(None, start, Timestamp::UNIX_EPOCH), "1");
        // By its own clock the holder renewed 50 years ago.
        assert_eq!(
            sight("b").step(Some(&lease), start, Timestamp::from_second(1_600_000_000).unwrap()),
            Step::Wait
        );
    }

    #[test]
    fn what_is_given_up_is_taken_at_once_and_a_write_names_the_version_it_is_about() {
        let (start, time) = (Instant::now(), Timestamp::UNIX_EPOCH);
        let mut lease = stored(sight("a").step(None, start, time), "7");
        lease.spec.as_mut().unwrap().holder_identity = None;
        let Step::Write(taken) = sight("b").step(Some(&lease), start, time) else { panic!("it waits") };
        assert_eq!(holder(&taken), Some("b"));
        assert_eq!(taken.metadata.resource_version.as_deref(), Some("7"));
    }

    #[test]
    fn the_lease_says_where_its_holder_is_and_keeps_what_others_wrote_there() {
        let (start, time) = (Instant::now(), Timestamp::UNIX_EPOCH);
        let mut a = Sight { address: Some("10.0.0.1:5678".into()), ..sight("a") };
        let mut lease = stored(a.step(None, start, time), "1");
        let reached = |lease: &Lease| Holder::of(lease).unwrap().address;
        assert_eq!(reached(&lease).as_deref(), Some("10.0.0.1:5678"));
        lease.metadata.annotations.as_mut().unwrap().insert("theirs".into(), "x".into());
        // One that is not reached takes over: the former one's address is not its own.
        lease.spec.as_mut().unwrap().holder_identity = None;
        assert_eq!(Holder::of(&lease), None);
        let lease = stored(sight("b").step(Some(&lease), start, time), "2");
        assert_eq!(Holder::of(&lease), Some(Holder { identity: "b".into(), address: None }));
        assert_eq!(lease.metadata.annotations.unwrap().get("theirs").map(String::as_str), Some("x"));
    }

    #[test]
    fn a_holder_gives_up_before_another_one_can_take_over() {
        assert!(DEADLINE + RETRY < DURATION);
    }
}
