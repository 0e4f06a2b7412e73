//! The command line, and the rules as text.
//!
//! Invariant: each flag can be an environment variable, so that a pod's manifest and a unit's file read alike.

use clap::{Args, Parser, Subcommand, ValueEnum};
use ursa_redirect::{Cidrs, Ports, Settings, SettingsError, Uids, iptables, rules};

use crate::ipv6;

/// Sends a workload's traffic to its proxy, by rules in the kernel.
#[derive(Debug, Parser)]
#[command(name = "ursa-init", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Starts the capture, or changes it to these settings. Connections that are open stay as they are
    Up {
        /// What the kernel is told with; auto takes nftables, and iptables where the kernel refuses that
        #[arg(long, env = "URSA_INIT_BACKEND", default_value = "auto")]
        backend: Backend,
        #[command(flatten)]
        settings: Box<Flags>,
    },
    /// Ends the capture, and removes all that `up` made
    Down {
        /// Where to look for what is to be removed; auto looks everywhere
        #[arg(long, env = "URSA_INIT_BACKEND", default_value = "auto")]
        backend: Backend,
    },
    /// Prints what `up` would tell the kernel, and changes nothing
    Print {
        /// In whose words
        #[arg(long, env = "URSA_INIT_FORMAT", default_value = "nft")]
        format: Format,
        #[command(flatten)]
        settings: Box<Flags>,
    },
}

/// What the kernel is told with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    Auto,
    Nftables,
    Iptables,
}

/// Whose words rules are printed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A script for `nft -f`
    Nft,
    /// What `iptables-restore --noflush` takes
    Iptables,
    /// What `ip6tables-restore --noflush` takes
    Ip6tables,
}

/// What is captured.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The user that the proxy and its agent run as; what it sends is not captured
    #[arg(long, env = "URSA_INIT_PROXY_UID", default_value_t = 5678)]
    proxy_uid: u32,
    /// Other users of which nothing is captured, by number: a resolver of the host's own (systemd-resolved, dnsmasq), which
    /// would get its own questions back
    #[arg(
        long,
        alias = "exclude-uid",
        env = "URSA_INIT_EXCLUDE_UIDS",
        default_value = "",
        hide_default_value = true
    )]
    exclude_uids: Uids,
    /// Where the proxy takes what the workload sends
    #[arg(long, env = "URSA_INIT_OUTBOUND_PORT", default_value_t = 15001)]
    outbound_port: u16,
    /// Where the proxy takes what the workload is sent
    #[arg(long, env = "URSA_INIT_INBOUND_PORT", default_value_t = 15006)]
    inbound_port: u16,
    /// Leaves alone what the workload is sent
    #[arg(long, env = "URSA_INIT_NO_INBOUND")]
    no_inbound: bool,
    /// Where the agent answers DNS, at 127.0.0.1 and ::1
    #[arg(long, env = "URSA_INIT_DNS_PORT", default_value_t = 15053)]
    dns_port: u16,
    /// Leaves DNS alone
    #[arg(long, env = "URSA_INIT_NO_DNS")]
    no_dns: bool,
    /// Leaves IPv6 alone
    #[arg(long, env = "URSA_INIT_NO_IPV6")]
    no_ipv6: bool,
    /// Ports at which the workload is reached without the proxy, such as 22,9000-9010
    #[arg(long, env = "URSA_INIT_EXCLUDE_INBOUND_PORTS", default_value = "", hide_default_value = true)]
    exclude_inbound_ports: Ports,
    /// Ports that the workload reaches without the proxy
    #[arg(long, env = "URSA_INIT_EXCLUDE_OUTBOUND_PORTS", default_value = "", hide_default_value = true)]
    exclude_outbound_ports: Ports,
    /// Addresses that the workload reaches without the proxy, such as 10.0.0.0/8,fd00::/8; DNS is captured all the same
    #[arg(long, env = "URSA_INIT_EXCLUDE_OUTBOUND_CIDRS", default_value = "", hide_default_value = true)]
    exclude_outbound_cidrs: Cidrs,
    /// The only addresses that the workload reaches through the proxy; all, if there are none
    #[arg(long, env = "URSA_INIT_ONLY_OUTBOUND_CIDRS", default_value = "", hide_default_value = true)]
    only_outbound_cidrs: Cidrs,
}

impl Flags {
    /// The settings, if they go together.
    pub(crate) fn settings(self) -> Result<Settings, SettingsError> {
        let Self {
            proxy_uid,
            exclude_uids,
            outbound_port,
            inbound_port,
            no_inbound,
            dns_port,
            no_dns,
            no_ipv6,
            exclude_inbound_ports,
            exclude_outbound_ports,
            exclude_outbound_cidrs,
            only_outbound_cidrs,
        } = self;
        let settings = Settings {
            proxy_uid,
            exclude_uids,
            outbound_port,
            inbound_port: (!no_inbound).then_some(inbound_port),
            dns_port: (!no_dns).then_some(dns_port),
            exclude_inbound_ports,
            exclude_outbound_ports,
            exclude_outbound_cidrs,
            only_outbound_cidrs,
            ipv6: !no_ipv6,
        };
        settings.check()?;
        Ok(settings)
    }
}

/// The rules as the text that a program takes.
pub(crate) fn print(settings: &Settings, format: Format) -> String {
    let (v4, v6) = iptables::iptables(settings);
    let rules = match format {
        Format::Nft => rules(settings).to_string(),
        Format::Iptables => v4,
        Format::Ip6tables => v6.unwrap_or_else(|| "# IPv6 is not captured.\n".to_owned()),
    };
    if ipv6::needs_source(settings) && format != Format::Iptables {
        format!("# Besides: ip address add {}/128 dev lo\n{rules}", ipv6::SOURCE)
    } else {
        rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(flags: &[&str]) -> Settings {
        let line = ["ursa-init", "up"].iter().chain(flags);
        let Command::Up { settings, .. } = Cli::try_parse_from(line).unwrap().command else {
            panic!("not up")
        };
        settings.settings().unwrap()
    }

    #[test]
    fn without_flags_the_settings_are_the_defaults() {
        assert_eq!(settings(&[]), Settings::default());
    }

    #[test]
    fn what_is_turned_off_has_no_port() {
        let off = settings(&["--no-inbound", "--no-dns", "--no-ipv6"]);
        assert_eq!((off.inbound_port, off.dns_port, off.ipv6), (None, None, false));
    }

    #[test]
    fn a_refused_list_names_the_flag_and_the_bad_part() {
        let line = ["ursa-init", "up", "--exclude-inbound-ports", "22,http"];
        let error = Cli::try_parse_from(line).unwrap_err().to_string();
        assert!(
            error.contains("--exclude-inbound-ports") && error.contains("\"http\" is not a port"),
            "{error}"
        );
    }
}
