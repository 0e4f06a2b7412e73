//! What a golden's input says.
//!
//! Invariant: settings are read as the flags are, so what flags refuse is a golden too.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use ursa_redirect::Settings;

pub(crate) type Error = Box<dyn std::error::Error>;

/// The first document.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(rename = "kind")]
    _kind: CaseKind,
    /// One sentence: why the case exists.
    why: String,
}

#[derive(Deserialize)]
enum CaseKind {
    Case,
}

/// The second document: what differs from the defaults.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Flags {
    proxy_uid: Option<u32>,
    exclude_uids: String,
    outbound_port: Option<u16>,
    inbound_port: Option<u16>,
    dns_port: Option<u16>,
    no_inbound: bool,
    no_dns: bool,
    no_ipv6: bool,
    exclude_inbound_ports: String,
    exclude_outbound_ports: String,
    exclude_outbound_cidrs: String,
    only_outbound_cidrs: String,
}

/// The settings of a case, or why they are refused.
pub(crate) fn read(path: &Path) -> Result<Result<Settings, String>, Error> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(&std::fs::read_to_string(path)?)?;
    let [case, flags] =
        <[Value; 2]>::try_from(documents).map_err(|_| "a Case and its settings are needed")?;
    let case: Case = serde_json::from_value(case)?;
    if case.why.is_empty() {
        return Err("the first document says why the case exists".into());
    }
    Ok(settings(serde_json::from_value(flags)?))
}

fn settings(flags: Flags) -> Result<Settings, String> {
    let default = Settings::default();
    let or_off = |off: bool, port: Option<u16>, default| if off { None } else { port.or(default) };
    let settings = Settings {
        proxy_uid: flags.proxy_uid.unwrap_or(default.proxy_uid),
        exclude_uids: read_text(&flags.exclude_uids)?,
        outbound_port: flags.outbound_port.unwrap_or(default.outbound_port),
        inbound_port: or_off(flags.no_inbound, flags.inbound_port, default.inbound_port),
        dns_port: or_off(flags.no_dns, flags.dns_port, default.dns_port),
        exclude_inbound_ports: read_text(&flags.exclude_inbound_ports)?,
        exclude_outbound_ports: read_text(&flags.exclude_outbound_ports)?,
        exclude_outbound_cidrs: read_text(&flags.exclude_outbound_cidrs)?,
        only_outbound_cidrs: read_text(&flags.only_outbound_cidrs)?,
        ipv6: !flags.no_ipv6,
    };
    settings.check().map_err(|error| error.to_string())?;
    Ok(settings)
}

fn read_text<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}
