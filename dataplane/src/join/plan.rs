//! What is to be on a host whose proxy is a service of systemd. Pure.

use std::path::{Path, PathBuf};

use crate::config::CpAddress;

/// The service of the proxy.
pub(super) const PROXY_UNIT: &str = "ursa-dp.service";
/// The service that captures traffic.
pub(super) const CAPTURE_UNIT: &str = "ursa-init.service";

const FOLDER: &str = "/etc/ursa";
const UNITS: &str = "/etc/systemd/system";
/// Services that resolve names for a host: their own questions, captured, would come back to them. And the control plane, where a
/// host has one.
const NOT_CAPTURED: [&str; 6] =
    ["systemd-resolve", "dnsmasq", "unbound", "pdns-recursor", "named", "ursa-cp"];

/// A file of the host.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) content: Vec<u8>,
    /// Who may read it, beside root.
    pub(super) readers: Readers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readers {
    /// The proxy's user.
    Proxy,
    Everybody,
}

/// What was given, and what the host is like.
#[derive(Debug)]
pub(super) struct Proxy<'a> {
    pub(super) resource: Vec<u8>,
    pub(super) captured: bool,
    pub(super) token: String,
    pub(super) ca: String,
    pub(super) cp_address: &'a CpAddress,
    pub(super) envoy: &'a Path,
    pub(super) exclude_inbound_ports: &'a str,
    /// The host's users, as `/etc/passwd` has them.
    pub(super) users: &'a str,
}

/// What is to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// In the order in which they are written.
    pub(super) files: Vec<File>,
    pub(super) captured: bool,
}

impl Plan {
    pub(super) fn new(proxy: &Proxy<'_>) -> Self {
        let Proxy { resource, captured, token, ca, cp_address, envoy, .. } = proxy;
        let file = |folder: &str, name: &str, content: &[u8], readers| File {
            path: Path::new(folder).join(name),
            content: content.to_vec(),
            readers,
        };
        let settings =
            format!("URSA_DP_CP_ADDRESS=https://{cp_address}\nURSA_DP_ENVOY={}\n", envoy.display());
        let excluded = excluded_users(proxy.users).join(",");
        let capture = format!(
            "URSA_INIT_EXCLUDE_INBOUND_PORTS={}\nURSA_INIT_EXCLUDE_UIDS={excluded}\n",
            proxy.exclude_inbound_ports
        );
        let files = vec![
            file(FOLDER, "dataplane.yaml", resource, Readers::Proxy),
            file(FOLDER, "token", token.trim().as_bytes(), Readers::Proxy),
            file(FOLDER, "ca.pem", ca.as_bytes(), Readers::Proxy),
            file(FOLDER, "ursa-dp.env", settings.as_bytes(), Readers::Proxy),
            file(FOLDER, "ursa-init.env", capture.as_bytes(), Readers::Proxy),
            file(UNITS, PROXY_UNIT, include_bytes!("../../../config/vm/ursa-dp.service"), Readers::Everybody),
            file(
                UNITS,
                CAPTURE_UNIT,
                include_bytes!("../../../config/vm/ursa-init.service"),
                Readers::Everybody,
            ),
        ];
        Self { files, captured: *captured }
    }
}

/// Numbers of users whose traffic must not be captured.
fn excluded_users(passwd: &str) -> Vec<String> {
    let users = passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, uid) = (fields.next()?, fields.next()?, fields.next()?);
        NOT_CAPTURED.contains(&name).then(|| uid.to_owned())
    });
    users.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_for_the_proxy_and_resolvers_are_not_captured() {
        let plan = Plan::new(&Proxy {
            resource: b"kind: Dataplane".to_vec(),
            captured: true,
            token: "t\n".into(),
            ca: "pem".into(),
            cp_address: &"https://[fd00::1]".parse().unwrap(),
            envoy: Path::new("/usr/local/bin/envoy"),
            exclude_inbound_ports: "22",
            users: "root:x:0:0::/root:/bin/sh\nsystemd-resolve:x:991:991::/:/x\nursa-cp:x:990:990::/:/x\n",
        });
        let of = |name: &str| plan.files.iter().find(|file| file.path.ends_with(name)).unwrap();
        let text = |name: &str| String::from_utf8(of(name).content.clone()).unwrap();
        assert_eq!((text("token").as_str(), of("token").readers), ("t", Readers::Proxy));
        assert!(text("ursa-dp.env").contains("URSA_DP_CP_ADDRESS=https://[fd00::1]:5678\n"));
        assert_eq!(
            text("ursa-init.env"),
            "URSA_INIT_EXCLUDE_INBOUND_PORTS=22\nURSA_INIT_EXCLUDE_UIDS=991,990\n"
        );
        assert_eq!(of(PROXY_UNIT).readers, Readers::Everybody);
    }
}
