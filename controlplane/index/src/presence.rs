//! Whether a proxy's agent is here, and what that means for its endpoints. Pure: the time is passed in.
//!
//! An agent that says that it drains loses its endpoints at once. One that is merely not heard of keeps them, as
//! second choice after a while: the control plane's sight is no proof that the workload is gone.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use ursa_model::EndpointState;

/// How long an agent may be away before its endpoints are second choice.
pub(crate) const LOST_AFTER: Duration = Duration::from_secs(5);
/// The same after the control plane's start, while all agents come back.
pub(crate) const LOST_AFTER_START: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Presence {
    sessions: u32,
    /// Its agent talks to another replica.
    elsewhere: bool,
    degrade_at: Option<Instant>,
    degraded: bool,
    draining: bool,
    /// Its agent has not said yet what is ready.
    silent: bool,
    unready: BTreeSet<u16>,
}

impl Presence {
    /// Of a proxy that was there before this control plane started: most likely it serves.
    pub(crate) fn unseen(now: Instant) -> Self {
        Self {
            sessions: 0,
            elsewhere: false,
            degrade_at: Some(now + LOST_AFTER_START),
            degraded: false,
            draining: false,
            silent: false,
            unready: BTreeSet::new(),
        }
    }

    /// Of a proxy that nobody knew before: its Envoy has yet to start, and its agent says when it has.
    pub(crate) fn new(now: Instant) -> Self {
        Self { silent: true, ..Self::unseen(now) }
    }

    /// Its agent says what is not ready.
    pub(crate) fn unready(&mut self, ports: BTreeSet<u16>) {
        self.silent = false;
        self.unready = ports;
    }

    /// Its agent says that it takes no more traffic.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether none of its inbounds gets traffic.
    pub(crate) fn is_out(&self) -> bool {
        self.draining || self.silent
    }

    /// The inbounds that are not ready.
    pub(crate) fn unready_ports(&self) -> &BTreeSet<u16> {
        &self.unready
    }

    /// Whether an inbound gets traffic.
    pub(crate) fn serves(&self, port: u16) -> bool {
        !self.is_out() && !self.unready.contains(&port)
    }

    pub(crate) fn connected(&mut self) {
        self.sessions += 1;
        self.arrived();
    }

    fn arrived(&mut self) {
        self.degrade_at = None;
        self.degraded = false;
        self.draining = false;
    }

    pub(crate) fn disconnected(&mut self, now: Instant) {
        self.sessions = self.sessions.saturating_sub(1);
        if self.sessions == 0 && !self.elsewhere {
            self.degrade_at = Some(now + LOST_AFTER);
        }
    }

    /// Whether its agent talks to another replica, and what it says there that is not ready, if it has said it.
    pub(crate) fn elsewhere(&mut self, connected: bool, unready: Option<&BTreeSet<u16>>, now: Instant) {
        let was = std::mem::replace(&mut self.elsewhere, connected);
        if connected {
            self.arrived();
        } else if was && self.sessions == 0 {
            self.degrade_at = Some(now + LOST_AFTER);
        }
        // What it says here is newer.
        if let Some(ports) = unready.filter(|_| connected && self.sessions == 0) {
            self.unready(ports.clone());
        }
    }

    /// When [`Self::expire`] will next change something.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.degrade_at
    }

    /// Whether the time that has passed changed anything.
    pub(crate) fn expire(&mut self, now: Instant) -> bool {
        let due = self.degrade_at.is_some_and(|at| at <= now);
        if due {
            self.degrade_at = None;
            self.degraded = true;
        }
        due
    }

    pub(crate) fn state(&self) -> EndpointState {
        if self.degraded { EndpointState::Degraded } else { EndpointState::Healthy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_agent_becomes_second_choice_after_a_while_and_first_again_when_it_is_back() {
        let start = Instant::now();
        let mut presence = Presence::unseen(start);
        presence.connected();
        assert_eq!(presence.deadline(), None);
        presence.disconnected(start);
        assert!(!presence.expire(start + LOST_AFTER / 2));
        assert_eq!(presence.state(), EndpointState::Healthy);
        assert!(presence.expire(start + LOST_AFTER));
        assert_eq!(presence.state(), EndpointState::Degraded);
        presence.connected();
        assert_eq!(presence.state(), EndpointState::Healthy);
    }

    #[test]
    fn a_second_stream_of_the_same_agent_keeps_it_present() {
        let start = Instant::now();
        let mut presence = Presence::unseen(start);
        presence.connected();
        presence.connected();
        presence.disconnected(start);
        assert_eq!(presence.deadline(), None);
    }

    #[test]
    fn an_agent_that_talks_to_another_replica_is_present_and_what_it_says_there_counts() {
        let start = Instant::now();
        let mut presence = Presence::new(start);
        presence.elsewhere(true, None, start);
        assert!(!presence.serves(80), "it has yet to say what is ready");
        presence.elsewhere(true, Some(&[81].into()), start);
        assert!(presence.serves(80) && !presence.serves(81));
        assert_eq!(presence.deadline(), None);
        // It comes here, and the other one is late to notice that it went.
        presence.connected();
        presence.unready(BTreeSet::new());
        presence.elsewhere(true, Some(&[80].into()), start);
        assert!(presence.serves(80));
        presence.elsewhere(false, Some(&[80].into()), start);
        assert_eq!(presence.deadline(), None);
        presence.disconnected(start);
        assert!(presence.expire(start + LOST_AFTER));
        assert_eq!(presence.state(), EndpointState::Degraded);
        presence.elsewhere(true, None, start);
        assert_eq!(presence.state(), EndpointState::Healthy);
        presence.elsewhere(false, None, start);
        assert!(presence.expire(start + LOST_AFTER));
    }

    #[test]
    fn a_new_proxy_serves_once_its_agent_says_so() {
        let start = Instant::now();
        assert!(Presence::unseen(start).serves(80));
        let mut presence = Presence::new(start);
        presence.connected();
        assert!(!presence.serves(80));
        presence.unready([81].into());
        assert!(presence.serves(80) && !presence.serves(81));
        presence.drain();
        assert!(!presence.serves(80));
    }
}
