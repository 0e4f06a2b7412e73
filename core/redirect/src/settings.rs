//! What is to be captured, and for whom.

use crate::{Cidrs, Ports, Uids};

/// The settings of one workload's capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The user that the proxy and its agent run as; nothing it sends is captured, lest it meet itself.
    pub proxy_uid: u32,
    /// Other users of which nothing is captured, DNS included: a resolver of the host's own, which the agent asks, would
    /// get its own questions back.
    pub exclude_uids: Uids,
    /// Where the proxy takes what the workload sends.
    pub outbound_port: u16,
    /// Where the proxy takes what the workload is sent; `None` leaves that alone.
    pub inbound_port: Option<u16>,
    /// Where the agent answers DNS, over UDP and TCP, at 127.0.0.1 and ::1; `None` leaves DNS alone.
    pub dns_port: Option<u16>,
    /// Ports of the workload that are reached without the proxy.
    pub exclude_inbound_ports: Ports,
    /// Ports that the workload reaches without the proxy.
    pub exclude_outbound_ports: Ports,
    /// Addresses that the workload reaches without the proxy. DNS asked of them is captured all the same.
    pub exclude_outbound_cidrs: Cidrs,
    /// If there are any, all other addresses are reached without the proxy.
    pub only_outbound_cidrs: Cidrs,
    /// Whether IPv6 is captured too.
    pub ipv6: bool,
}

/// What is wrong with settings that are well formed each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Two of the proxy's ports are one.
    #[error("port {port} is to be the proxy's {first} and its {second} port: choose another for one of them")]
    SamePort {
        /// The port.
        port: u16,
        /// What one use of it is.
        first: &'static str,
        /// What the other use of it is.
        second: &'static str,
    },
    /// There is no port 0 to send anything to.
    #[error("the proxy's {0} port is 0: ports are 1 to 65535")]
    PortZero(&'static str),
    /// Whatever root sends would pass by the proxy.
    #[error(
        "the proxy's uid is 0: then nothing that root runs is captured; run the proxy as a user of its own"
    )]
    RootProxy,
    /// Port 53 can't both be captured and excluded.
    #[error(
        "outbound port 53 is excluded, and DNS is to be captured: leave 53 out of the excluded ports, or turn the capture \
         of DNS off"
    )]
    DnsExcluded,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            proxy_uid: 5678,
            exclude_uids: Uids::default(),
            outbound_port: 15001,
            inbound_port: Some(15006),
            dns_port: Some(15053),
            exclude_inbound_ports: Ports::default(),
            exclude_outbound_ports: Ports::default(),
            exclude_outbound_cidrs: Cidrs::default(),
            only_outbound_cidrs: Cidrs::default(),
            ipv6: true,
        }
    }
}

impl Settings {
    /// Finds contradictions; what is found first is told.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.proxy_uid == 0 {
            return Err(SettingsError::RootProxy);
        }
        let ports = self.proxy_ports();
        for (index, (second, port)) in ports.iter().enumerate() {
            if *port == 0 {
                return Err(SettingsError::PortZero(second));
            }
            if let Some((first, _)) = ports.iter().take(index).find(|(_, other)| other == port) {
                return Err(SettingsError::SamePort { port: *port, first, second });
            }
        }
        if self.dns_port.is_some() && self.exclude_outbound_ports.contains(53) {
            return Err(SettingsError::DnsExcluded);
        }
        Ok(())
    }

    /// The ports that the proxy itself listens on, with what they are for.
    pub(crate) fn proxy_ports(&self) -> Vec<(&'static str, u16)> {
        let outbound = Some(("outbound", self.outbound_port));
        let inbound = self.inbound_port.map(|port| ("inbound", port));
        let dns = self.dns_port.map(|port| ("DNS", port));
        [outbound, inbound, dns].into_iter().flatten().collect()
    }
}
