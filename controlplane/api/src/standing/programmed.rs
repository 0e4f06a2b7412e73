//! The condition `Programmed`. Pure.
//!
//! Invariant: it is true only if every zone that counts is there and says that all its proxies enforce this very generation.

use jiff::Timestamp;
use ursa_crds::{Enforcement, ZoneProgress};

use super::Verdict;

/// A zone that counts, and what it said last of a resource (generation 0: nothing).
#[derive(Clone, Debug)]
pub(super) struct ZoneView {
    pub(super) name: String,
    pub(super) away_since: Option<Timestamp>,
    pub(super) outdated: Option<Outdated>,
    pub(super) enforcement: Enforcement,
}

/// A zone whose control plane is of an older version, which does not know all of a resource, or does not tell how far it is.
#[derive(Clone, Debug)]
pub(super) struct Outdated {
    pub(super) schema: u32,
    /// Fields of the resource that it does not know.
    pub(super) fields: Vec<&'static str>,
}

/// What is in the way in one zone, in the order in which it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Obstacle {
    Rejected,
    Outdated,
    Pending,
    Mute,
    Away,
}

pub(super) fn programmed(generation: u64, zones: &[ZoneView]) -> (Verdict, Vec<ZoneProgress>) {
    let mut obstacles: Vec<(Obstacle, String)> =
        zones.iter().filter_map(|zone| obstacle(generation, zone)).collect();
    obstacles.sort();
    let progress: Vec<ZoneProgress> = zones.iter().map(|zone| progress(generation, zone)).collect();
    let verdict = match obstacles.first() {
        None => Verdict { status: "True", reason: "Programmed".into(), message: enforced_by(&progress) },
        Some((first, _)) => {
            let (status, reason) = match first {
                Obstacle::Rejected => ("False", "ProxyRejected"),
                Obstacle::Outdated => ("False", "ZoneOutdated"),
                Obstacle::Pending => ("False", "Pending"),
                Obstacle::Mute => ("Unknown", "ZoneOutdated"),
                Obstacle::Away => ("Unknown", "ZoneAway"),
            };
            let texts: Vec<String> = obstacles.into_iter().map(|(_, text)| text).collect();
            Verdict { status, reason: reason.into(), message: texts.join("; ") }
        }
    };
    (verdict, progress)
}

fn progress(generation: u64, ZoneView { name, enforcement, .. }: &ZoneView) -> ZoneProgress {
    let is_current = enforcement.generation == generation;
    ZoneProgress {
        name: name.clone(),
        acked: if is_current { enforcement.acked } else { 0 },
        total: enforcement.total,
        laggards: if is_current { enforcement.laggards.clone() } else { Vec::new() },
    }
}

fn obstacle(
    generation: u64,
    ZoneView { name, away_since, outdated, enforcement }: &ZoneView,
) -> Option<(Obstacle, String)> {
    let Enforcement { acked, total, unheard, laggards, rejections, enforced, .. } = enforcement;
    if let Some(since) = away_since {
        let since = since.strftime("%FT%TZ");
        return Some((
            Obstacle::Away,
            format!("zone {name} is away since {since}: what it enforces is not known"),
        ));
    }
    if let Some(Outdated { schema, fields }) = outdated {
        let runs = format!("zone {name} runs schema {schema}");
        return Some(if fields.is_empty() {
            (Obstacle::Mute, format!("{runs}, which does not tell what its proxies enforce: upgrade it"))
        } else {
            let fields = fields.join(", ");
            (Obstacle::Outdated, format!("{runs} and does not know {fields}: it goes on without; upgrade it"))
        });
    }
    if enforcement.generation != generation {
        return Some((Obstacle::Pending, format!("zone {name} has not got it yet")));
    }
    if let Some(first) = rejections.first() {
        let more = match rejections.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        let text =
            format!("zone {name}: proxy {}{more} refused it: {}", first.dataplane, first.message.trim());
        return Some((Obstacle::Rejected, text));
    }
    if *enforced {
        return None;
    }
    let lagging = total.saturating_sub(*acked).saturating_sub(*unheard);
    Some(match (lagging, unheard) {
        (0, 0) => {
            (Obstacle::Pending, format!("zone {name}: a replica of its control plane has not got it yet"))
        }
        (0, unheard) => (
            Obstacle::Away,
            format!(
                "zone {name}: of {unheard} of {total} proxies nothing is known, the control plane's replica that they talked to is gone"
            ),
        ),
        (lagging, _) => {
            let named = laggards.join(", ");
            let more =
                if usize::try_from(lagging).is_ok_and(|all| all > laggards.len()) { ", …" } else { "" };
            (
                Obstacle::Pending,
                format!("zone {name}: {lagging} of {total} proxies do not enforce it: {named}{more}"),
            )
        }
    })
}

fn enforced_by(zones: &[ZoneProgress]) -> String {
    let touched: Vec<String> = (zones.iter().filter(|zone| zone.total > 0))
        .map(|zone| format!("{} in {}", zone.total, zone.name))
        .collect();
    if touched.is_empty() {
        return "no proxy is touched by it".into();
    }
    format!("all proxies that it touches enforce it: {}", touched.join(", "))
}

#[cfg(test)]
mod tests {
    use ursa_crds::Refusal;

    use super::*;

    fn zone(name: &str, generation: u64, acked: u32, total: u32) -> ZoneView {
        let laggards = (acked..total).map(|n| format!("web-{n}")).collect();
        let enforced = acked == total;
        let enforcement = Enforcement {
            uid: "u".into(),
            generation,
            enforced,
            acked,
            total,
            laggards,
            ..Enforcement::default()
        };
        ZoneView { name: name.into(), away_since: None, outdated: None, enforcement }
    }

    fn told(zones: &[ZoneView]) -> (&'static str, String, String) {
        let (Verdict { status, reason, message }, _) = programmed(2, zones);
        (status, reason.into_owned(), message)
    }

    #[test]
    fn it_is_true_once_every_zone_enforces_this_generation() {
        let (status, reason, message) = told(&[zone("east", 2, 3, 3), zone("west", 2, 0, 0)]);
        assert_eq!((status, reason.as_str()), ("True", "Programmed"));
        assert_eq!(message, "all proxies that it touches enforce it: 3 in east");
        assert_eq!(told(&[]).0, "True", "nobody is there who could enforce anything else");
        let (status, reason, message) = told(&[zone("east", 2, 3, 3), zone("west", 1, 2, 2)]);
        assert_eq!(
            (status, reason.as_str(), message.as_str()),
            ("False", "Pending", "zone west has not got it yet")
        );
        let (_, zones) = programmed(2, &[zone("west", 1, 2, 2)]);
        assert_eq!((zones[0].acked, zones[0].total), (0, 2));
    }

    #[test]
    fn laggards_are_named() {
        let (status, _, message) = told(&[zone("east", 2, 1, 3)]);
        assert_eq!(status, "False");
        assert_eq!(message, "zone east: 2 of 3 proxies do not enforce it: web-1, web-2");
        let mut behind = zone("east", 2, 3, 3);
        behind.enforcement.enforced = false;
        let (status, reason, message) = told(&[behind]);
        assert_eq!((status, reason.as_str()), ("False", "Pending"));
        assert!(message.contains("a replica of its control plane"), "{message}");
    }

    #[test]
    fn what_an_older_zone_does_not_know_or_tell_is_said() {
        let older = |fields: &[&'static str]| ZoneView {
            outdated: Some(Outdated { schema: 1, fields: fields.to_vec() }),
            ..zone("west", 0, 0, 0)
        };
        let (status, reason, message) = told(&[zone("east", 2, 1, 1), older(&["spec.members"])]);
        assert_eq!((status, reason.as_str()), ("False", "ZoneOutdated"));
        assert_eq!(
            message,
            "zone west runs schema 1 and does not know spec.members: it goes on without; upgrade it"
        );
        let (status, reason, message) = told(&[zone("east", 2, 1, 1), older(&[])]);
        assert_eq!((status, reason.as_str()), ("Unknown", "ZoneOutdated"));
        assert!(message.contains("does not tell what its proxies enforce"), "{message}");
        assert_eq!(told(&[zone("east", 1, 1, 1), older(&[])]).1, "Pending", "what is known comes first");
    }

    #[test]
    fn what_nobody_knows_is_unknown_and_a_refusal_comes_first() {
        let since = Some("2026-01-01T00:00:00Z".parse().unwrap());
        let away = ZoneView { away_since: since, ..zone("west", 2, 2, 2) };
        let (status, reason, message) = told(&[zone("east", 2, 1, 1), away.clone()]);
        assert_eq!((status, reason.as_str()), ("Unknown", "ZoneAway"));
        assert!(message.contains("zone west is away since 2026-01-01T00:00:00Z"), "{message}");
        let mut unheard = zone("east", 2, 1, 3);
        (unheard.enforcement.unheard, unheard.enforcement.laggards) = (2, Vec::new());
        assert_eq!(told(&[unheard]).0, "Unknown");
        let mut refused = zone("east", 2, 2, 3);
        refused.enforcement.rejections = vec![Refusal { dataplane: "web-1".into(), message: "bad".into() }];
        let (status, reason, message) = told(&[away, refused, zone("aws", 2, 0, 1)]);
        assert_eq!((status, reason.as_str()), ("False", "ProxyRejected"));
        assert!(message.starts_with("zone east: proxy web-1 refused it: bad"), "{message}");
    }
}
