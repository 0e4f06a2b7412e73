//! The decision held against the rule as one would say it, over service, zone, namespace and tags.

use proptest::prelude::*;
use proptest::sample::subsequence;
use ursa_crds::{GrantedService, IdentityTag, Meta, Selector, tag};
use ursa_model::SpiffeId;

use super::*;
use crate::grants::{Place, may_carry_tag};
use crate::source::Detail;

const ZONES: [&str; 2] = ["east", "west"];
const SERVICES: [&str; 2] = ["a", "b"];
/// The empty one stands for a virtual machine.
const NAMESPACES: [&str; 3] = ["", "shop", "bank"];
/// Values of the tags `team` and `tier`; the empty one stands for none.
const TEAMS: [&str; 3] = ["", "red", "blue"];
const TIERS: [&str; 2] = ["", "gold"];

/// It declares `team` for all, and `tier` for the namespace `shop`; every namespace may have each service.
fn mesh() -> MeshSpec {
    let declared = |key: &str, namespaces: &[&str]| IdentityTag {
        key: key.into(),
        namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
        zones: Vec::new(),
    };
    let granted =
        |name: &&str| GrantedService { name: (*name).to_owned(), namespaces: Vec::new(), zones: Vec::new() };
    MeshSpec {
        identity_tags: vec![declared("team", &[]), declared("tier", &["shop"])],
        services: SERVICES.iter().chain(&["z"]).map(granted).collect(),
        ..MeshSpec::default()
    }
}

fn domain(zone: &str) -> TrustDomain {
    TrustDomain::new(zone, "default")
}

fn workload(zone: &str, service: &str, namespace: &str, tags: &[(&str, &str)]) -> Known {
    let tags = tags.iter().filter(|(_, value)| !value.is_empty());
    let tags: Tags = tags.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let detail = Detail { namespace: namespace.to_owned(), hash: SpiffeId::hash(&tags), tags };
    Known { domain: domain(zone), service: service.to_owned(), detail: Some(detail) }
}

/// Everybody there can be.
fn everybody() -> Vec<Known> {
    let mut all = Vec::new();
    for zone in ZONES {
        for service in SERVICES {
            for namespace in NAMESPACES {
                for team in TEAMS {
                    let tiers = TIERS.map(|tier| [("team", team), ("tier", tier)]);
                    all.extend(tiers.map(|tags| workload(zone, service, namespace, &tags)));
                }
            }
        }
    }
    all
}

/// As its zone says it if its control plane is too old to say more.
fn as_of_old(known: &Known) -> Known {
    Known { detail: None, ..known.clone() }
}

fn id(known: &Known) -> SpiffeId {
    let detail = known.detail.as_ref().unwrap();
    let namespace = if detail.namespace.is_empty() { "-".to_owned() } else { detail.namespace.clone() };
    let id = SpiffeId::universal(known.domain.clone(), &known.service, "p");
    SpiffeId { namespace, tags: detail.hash.clone(), ..id }
}

fn selector() -> impl Strategy<Value = Selector> {
    let one_of = |values: &[&'static str]| {
        let values: Vec<&str> = values.iter().copied().chain([tag::ANY]).collect();
        prop::option::weighted(0.4, proptest::sample::select(values))
    };
    let wanted = (
        one_of(&SERVICES),
        one_of(&ZONES),
        one_of(&["shop", "bank"]),
        one_of(&["red", "blue"]),
        one_of(&["gold"]),
        prop::option::weighted(0.1, Just("x")),
    );
    wanted.prop_map(|(service, zone, namespace, team, tier, other)| {
        let keys = [tag::SERVICE, tag::ZONE, tag::NAMESPACE, "team", "tier", "not-declared"];
        let values = [service, zone, namespace, team, tier, other];
        Selector::of(keys.into_iter().zip(values).filter_map(|(key, value)| Some((key, value?))))
    })
}

fn permission(action: Action) -> impl Strategy<Value = Arc<Object>> {
    let destination = prop_oneof![3 => Just("c"), 1 => Just("d")];
    (prop::collection::vec(selector(), 1..3), destination).prop_map(move |(sources, service)| {
        let spec = TrafficPermissionSpec {
            mesh: "default".into(),
            action,
            sources,
            destinations: vec![Selector::of([(tag::SERVICE, service)])],
        };
        Arc::new(Object { meta: Meta::default(), spec: Spec::TrafficPermission(spec) })
    })
}

fn permissions() -> impl Strategy<Value = Vec<Arc<Object>>> {
    prop::collection::vec(prop_oneof![2 => permission(Action::Allow), 1 => permission(Action::Deny)], 0..5)
}

/// Some of all who can be: those that are known.
fn some() -> impl Strategy<Value = Vec<Known>> {
    let all = everybody();
    let count = all.len();
    subsequence(all, 0..=count)
}

fn inbound() -> Tags {
    Tags::from([(tag::SERVICE.to_owned(), "c".to_owned()), (tag::ZONE.to_owned(), "east".to_owned())])
}

fn patterns(permissions: &[Arc<Object>], known: impl IntoIterator<Item = Known>) -> Vec<IdentityPattern> {
    let known: BTreeSet<Known> = known.into_iter().collect();
    let named = |(position, permission): (usize, &Arc<Object>)| {
        let meta = Meta { name: format!("p{position}"), ..permission.meta.clone() };
        Arc::new(Object { meta, spec: permission.spec.clone() })
    };
    let permissions: Vec<Arc<Object>> = permissions.iter().enumerate().map(named).collect();
    Permissions::new(&permissions).callers(&[&inbound()], &mesh(), &ZONES.map(domain), || &known)
}

/// Who of all that can be gets in if these are known.
fn admitted(permissions: &[Arc<Object>], known: impl IntoIterator<Item = Known>) -> BTreeSet<Known> {
    let patterns = patterns(permissions, known);
    let gets_in = |known: &Known| patterns.iter().any(|pattern| pattern.matches(&id(known)));
    everybody().into_iter().filter(gets_in).collect()
}

/// The rule as one would say it.
fn specification(permissions: &[Arc<Object>]) -> BTreeSet<Known> {
    let has = |known: &Known, key: &str, wanted: &str| {
        let detail = known.detail.as_ref().unwrap();
        let actual = match key {
            tag::SERVICE => Some(known.service.as_str()),
            tag::ZONE => Some(known.domain.zone.as_str()),
            tag::NAMESPACE => Some(detail.namespace.as_str()).filter(|name| !name.is_empty()),
            key => detail.tags.get(key).map(String::as_str),
        };
        actual.is_some_and(|actual| wanted == tag::ANY || wanted == actual)
    };
    // Who is in the wrong namespace cannot have the tier, even if its zone says so.
    let may_have = |known: &Known, key: &str| match key {
        "not-declared" => false,
        "tier" => ["", "shop"].contains(&known.detail.as_ref().unwrap().namespace.as_str()),
        _ => true,
    };
    let selects = |action: Action, wanted: &Tags, known: &Known| match action {
        Action::Allow => wanted.iter().all(|(key, value)| may_have(known, key) && has(known, key, value)),
        Action::Deny => wanted.iter().all(|(key, value)| key == "not-declared" || has(known, key, value)),
    };
    let any = |action: Action, known: &Known| {
        permissions.iter().any(|object| {
            let Spec::TrafficPermission(spec) = &object.spec else { return false };
            spec.action == action
                && spec.destinations.iter().any(|to| matches(&to.match_tags, &inbound()))
                && spec
                    .sources
                    .iter()
                    .any(|from| !from.match_tags.is_empty() && selects(action, &from.match_tags, known))
        })
    };
    everybody().into_iter().filter(|known| any(Action::Allow, known) && !any(Action::Deny, known)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]
    #[test]
    fn who_gets_in_is_the_specifications_in_any_order(mut all in permissions(), turn in 0..5_usize) {
        let turns = turn.min(all.len());
        all.rotate_left(turns);
        prop_assert_eq!(admitted(&all, everybody()), specification(&all));
    }

    #[test]
    fn of_those_who_are_not_known_nobody_gets_in_who_would_not_if_they_were(
        all in permissions(), known in some()
    ) {
        let (admitted, meant) = (admitted(&all, known.clone()), specification(&all));
        prop_assert!(admitted.is_subset(&meant));
        let known: BTreeSet<Known> = known.into_iter().collect();
        prop_assert_eq!(
            admitted.intersection(&known).collect::<BTreeSet<_>>(),
            meant.intersection(&known).collect::<BTreeSet<_>>()
        );
    }

    #[test]
    fn a_zone_that_says_less_of_its_workloads_gets_no_more_in(all in permissions()) {
        let said = everybody().into_iter().map(|known| match known.domain.zone.as_str() {
            "west" => as_of_old(&known),
            _ => known,
        });
        let (admitted, meant) = (admitted(&all, said), specification(&all));
        prop_assert!(admitted.is_subset(&meant));
        let east = |known: &&Known| known.domain.zone == "east";
        prop_assert!(admitted.iter().filter(east).eq(meant.iter().filter(east)));
    }

    #[test]
    fn a_deny_never_widens_and_an_allow_never_narrows(
        all in permissions(), deny in permission(Action::Deny), allow in permission(Action::Allow), known in some()
    ) {
        let before = admitted(&all, known.clone());
        let with = |extra: Arc<Object>| admitted(&[all.clone(), vec![extra]].concat(), known.clone());
        prop_assert!(with(deny).is_subset(&before));
        let known: BTreeSet<Known> = known.iter().cloned().collect();
        let narrower = |with: &BTreeSet<Known>| before.intersection(&known).any(|known| !with.contains(known));
        prop_assert!(!narrower(&with(allow)));
    }

    #[test]
    fn no_pattern_is_covered_by_another(all in permissions(), known in some()) {
        let patterns = patterns(&all, known);
        for pattern in &patterns {
            let covering = patterns.iter().filter(|other| pattern.prefix().starts_with(&other.prefix()));
            prop_assert_eq!(covering.count(), 1, "{:?} in {:?}", pattern, patterns);
        }
    }
}

fn allow(source: &[(&str, &str)]) -> Arc<Object> {
    of(Action::Allow, source, "")
}

fn of(action: Action, source: &[(&str, &str)], namespace: &str) -> Arc<Object> {
    let spec = TrafficPermissionSpec {
        mesh: "default".into(),
        action,
        sources: vec![Selector::of(source.iter().copied())],
        destinations: vec![Selector::of([(tag::SERVICE, "*")])],
    };
    let meta = Meta { namespace: namespace.into(), ..Meta::default() };
    Arc::new(Object { meta, spec: Spec::TrafficPermission(spec) })
}

fn prefixes(permissions: &[Arc<Object>], known: &[Known]) -> Vec<String> {
    patterns(permissions, known.to_vec()).iter().map(IdentityPattern::prefix).collect()
}

#[test]
fn without_a_permission_nobody_gets_in() {
    assert!(patterns(&[], everybody()).is_empty());
}

#[test]
fn a_source_is_the_shortest_prefix_that_says_it() {
    let known = [workload("east", "a", "shop", &[("team", "red")]), workload("east", "b", "shop", &[])];
    let one = |source: &[(&str, &str)]| prefixes(&[allow(source)], &known);
    assert_eq!(
        one(&[(tag::SERVICE, "z")]),
        ["spiffe://east.default.ursa/service/z/", "spiffe://west.default.ursa/service/z/"],
        "it is not known yet"
    );
    assert_eq!(one(&[(tag::ZONE, "west"), (tag::SERVICE, "*")]), ["spiffe://west.default.ursa/"]);
    assert_eq!(
        one(&[(tag::ZONE, "west"), (tag::SERVICE, "z"), (tag::NAMESPACE, "bank")]),
        ["spiffe://west.default.ursa/service/z/ns/bank/"],
        "it is not known yet"
    );
    assert_eq!(
        one(&[(tag::NAMESPACE, "shop")]),
        ["spiffe://east.default.ursa/service/a/ns/shop/", "spiffe://east.default.ursa/service/b/ns/shop/"]
    );
    let hash = SpiffeId::hash(&Tags::from([("team".to_owned(), "red".to_owned())]));
    assert_eq!(one(&[("team", "*")]), [format!("spiffe://east.default.ursa/service/a/ns/shop/tags/{hash}/")]);
    assert!(one(&[(tag::NAMESPACE, "bank")]).is_empty());
}

#[test]
fn while_a_deny_applies_identities_are_as_exact_as_any_source_needs() {
    let known = [workload("east", "a", "shop", &[]), workload("east", "a", "bank", &[])];
    let with = |deny: &[(&str, &str)]| {
        prefixes(&[allow(&[(tag::SERVICE, "*")]), of(Action::Deny, deny, "")], &known)
    };
    assert_eq!(with(&[(tag::SERVICE, "b")]), ["spiffe://east.default.ursa/service/a/"]);
    assert_eq!(with(&[(tag::NAMESPACE, "bank")]), ["spiffe://east.default.ursa/service/a/ns/shop/"]);
    assert_eq!(
        with(&[("team", "red")]),
        [
            "spiffe://east.default.ursa/service/a/ns/bank/tags/-/",
            "spiffe://east.default.ursa/service/a/ns/shop/tags/-/"
        ]
    );
    assert!(with(&[("not-declared", "x")]).is_empty(), "it is left out, and everybody is denied");
}

#[test]
fn what_another_zone_says_of_tags_counts_as_far_as_they_are_granted() {
    let gold = |namespace: &str| workload("west", "a", namespace, &[("tier", "gold")]);
    assert!(!may_carry_tag(&mesh(), Place::new("west", "bank"), "tier"));
    assert_eq!(prefixes(&[allow(&[("tier", "gold")])], &[gold("bank")]), Vec::<String>::new());
    assert_eq!(prefixes(&[allow(&[("tier", "gold")])], &[gold("shop")]).len(), 1);
    let deny = [allow(&[(tag::SERVICE, "*")]), of(Action::Deny, &[("tier", "gold")], "")];
    assert!(prefixes(&deny, &[gold("bank")]).is_empty(), "a Deny takes its word");
}

#[test]
fn a_permission_in_a_namespace_is_for_that_namespaces_workloads_only() {
    let permissions = Permissions::new(&[of(Action::Allow, &[(tag::SERVICE, "*")], "shop")]);
    let nobody = BTreeSet::new();
    let callers = |namespace: Option<&str>| {
        let mut tags = inbound();
        tags.extend(namespace.map(|name| (tag::NAMESPACE.to_owned(), name.to_owned())));
        permissions.callers(&[&tags], &mesh(), &ZONES.map(domain), || &nobody).len()
    };
    assert_eq!((callers(Some("shop")), callers(Some("bank")), callers(None)), (ZONES.len(), 0, 0));
}
