//! What becomes of a proxy that goes from replica to replica, in whatever order the news come.

use jiff::Timestamp;
use tokio::time::timeout;
use ursa_model::ProxyId;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn proxy() -> ProxyId {
    ProxyId::new("default", "web-1")
}

fn connected(second: i64) -> ProxyInsight {
    ProxyInsight { connected: true, connected_at: Some(at(second)), ..ProxyInsight::default() }
}

fn gone(connected: i64, disconnected: i64) -> ProxyInsight {
    ProxyInsight {
        connected_at: Some(at(connected)),
        disconnected_at: Some(at(disconnected)),
        ..ProxyInsight::default()
    }
}

fn with_certificate(insight: ProxyInsight, backend: &str, signed: i64) -> ProxyInsight {
    let certificate =
        Certificate { backend: backend.into(), expires: at(1_000_000), signed_at: Some(at(signed)) };
    ProxyInsight { certificate: Some(certificate), ..insight }
}

/// A replica with what others say: who, what.
fn heard(said: &[(&str, ProxyInsight)]) -> Insights {
    let insights = Insights::default();
    for (replica, insight) in said {
        let stream = insights.joined(replica);
        say(&insights, replica, stream, insight.clone());
    }
    insights
}

fn say(insights: &Insights, replica: &str, stream: u64, insight: ProxyInsight) {
    insights.take(replica, stream, vec![(proxy(), "v".into(), insight)], Vec::new()).expect("it counts");
}

fn here(insights: &Insights, insight: &ProxyInsight) {
    insights.update(&proxy(), |own| own.clone_from(insight));
}

#[test]
fn a_proxy_that_moves_is_connected_in_whatever_order_the_news_come() {
    // From replica a to replica b, each of which tells by a stream of its own.
    let (left, arrived) = (gone(10, 20), connected(21));
    let before = connected(10);
    for order in [[("a", &left), ("b", &arrived)], [("b", &arrived), ("a", &left)]] {
        let insights = heard(&[("a", before.clone())]);
        for (replica, insight) in order {
            let stream = insights.joined(replica);
            say(&insights, replica, stream, insight.clone());
            let has_arrived = !insights.said("b").is_empty();
            assert_eq!(
                insights.get(&proxy()).unwrap().connected,
                has_arrived,
                "after {replica} of {order:?}"
            );
        }
        let known = insights.get(&proxy()).unwrap();
        assert_eq!((known.connected, known.connected_at), (true, Some(at(21))));
        assert_eq!(known.disconnected_at, None, "that a lost it is of no concern");
    }
}

#[test]
fn a_proxy_that_comes_here_is_not_lost_by_what_others_remember() {
    let insights = heard(&[("a", connected(10))]);
    here(&insights, &connected(20));
    let stream = insights.joined("a");
    say(&insights, "a", stream, gone(10, 30));
    assert!(insights.get(&proxy()).unwrap().connected);
    // The clocks of two replicas differ: a connection that there is counts all the same.
    say(&insights, "a", stream, gone(25, 30));
    assert!(insights.get(&proxy()).unwrap().connected);
    // It goes to a again, and this replica is late to notice that it went.
    say(&insights, "a", stream, connected(40));
    assert_eq!(insights.get(&proxy()).unwrap().connected_at, Some(at(40)));
    here(&insights, &gone(20, 41));
    let known = insights.get(&proxy()).unwrap();
    assert_eq!((known.connected, known.connected_at), (true, Some(at(40))));
    // Only who has the connection loses it.
    say(&insights, "a", stream, gone(40, 50));
    let known = insights.get(&proxy()).unwrap();
    assert_eq!((known.connected, known.disconnected_at), (false, Some(at(50))));
}

#[test]
fn proxies_of_a_replica_that_is_gone_are_unheard_of_until_they_appear() {
    let insights = heard(&[("a", with_certificate(connected(10), "ca", 11)), ("b", gone(1, 2))]);
    let stream = insights.joined("a");
    assert_eq!(insights.left("a", stream - 1, at(60), |_| true), [], "it has a newer stream");
    assert!(insights.get(&proxy()).unwrap().connected);
    assert_eq!(insights.left("a", stream, at(60), |_| true), [proxy()]);
    let known = insights.get(&proxy()).unwrap();
    assert_eq!((known.connected, known.unheard_since), (false, Some(at(60))));
    assert_eq!(
        known.certificate.as_ref().map(|held| held.backend.as_str()),
        Some("ca"),
        "it holds it all the same"
    );
    // That is what others are told, too.
    assert_eq!(insights.for_replica("b", &proxy()), Some(known));

    let stream = insights.joined("b");
    say(&insights, "b", stream, connected(70));
    let known = insights.get(&proxy()).unwrap();
    assert_eq!((known.connected, known.unheard_since), (true, None));
    assert_eq!(known.certificate.map(|held| held.backend).as_deref(), Some("ca"));
    // Once it is lost where it went, it is lost.
    say(&insights, "b", stream, gone(70, 80));
    assert_eq!(insights.get(&proxy()).unwrap().unheard_since, None);
    insights.remove(&proxy());
    assert_eq!(insights.get(&proxy()), None);
}

#[test]
fn nothing_is_kept_of_a_gone_replica_s_proxies_that_do_not_exist() {
    let insights = heard(&[("a", with_certificate(connected(10), "ca", 11))]);
    assert_eq!(insights.left("a", 1, at(60), |_| false), [proxy()]);
    assert_eq!(insights.get(&proxy()), None);
    assert!(insights.certificates("default", at(20)).is_empty());
}

#[test]
fn an_old_stream_s_word_does_not_count() {
    let insights = heard(&[("a", connected(10))]);
    let stream = insights.joined("a");
    let late = insights.take("a", stream - 1, Vec::new(), vec![proxy()]);
    assert_eq!(late, None);
    assert!(insights.get(&proxy()).unwrap().connected);
    assert_eq!(insights.said("a").len(), 1, "what it said before needs no saying again");
}

#[test]
fn certificates_are_counted_once_and_by_the_last_that_was_signed() {
    let insights = heard(&[
        ("a", with_certificate(gone(10, 20), "old", 11)),
        ("b", with_certificate(connected(30), "new", 31)),
    ]);
    here(&insights, &with_certificate(gone(1, 2), "older", 1));
    let count = |insights: &Insights| insights.certificates("default", at(100));
    assert_eq!(count(&insights), [("new".to_owned(), 1)].into());
    // It goes back to a, with what it has.
    let stream = insights.joined("a");
    say(&insights, "a", stream, with_certificate(connected(40), "old", 11));
    assert_eq!(count(&insights), [("new".to_owned(), 1)].into());
    assert!(insights.certificates("other", at(100)).is_empty());
    assert!(insights.certificates("default", at(1_000_000)).is_empty(), "it has expired");
}

#[test]
fn a_replica_is_told_what_others_know_and_not_what_it_says_itself() {
    let insights = heard(&[("a", connected(10)), ("b", gone(1, 2))]);
    assert_eq!(insights.for_replica("a", &proxy()), Some(gone(1, 2)));
    assert_eq!(insights.for_replica("b", &proxy()), Some(connected(10)));
    here(&insights, &gone(3, 4));
    assert_eq!(insights.for_replica("a", &proxy()), Some(gone(3, 4)));
    let (proxies, _) = insights.follow_for_replica("a");
    assert_eq!(proxies, [proxy()], "each once");
}

#[test]
fn counts_are_those_of_the_replica_that_is_asked() {
    let insights = Insights::default();
    here(&insights, &ProxyInsight { acknowledged: 7, responses: 9, ..connected(10) });
    let known = insights.get(&proxy()).unwrap();
    assert_eq!((known.acknowledged, known.responses), (7, 9));
    let stream = insights.joined("a");
    say(&insights, "a", stream, connected(20));
    let known = insights.get(&proxy()).unwrap();
    assert_eq!((known.acknowledged, known.responses), (0, 0), "they mean nothing at another replica");
}

#[tokio::test]
async fn who_does_not_fetch_news_gets_each_proxy_once_and_the_latest_state() {
    let insights = Insights::default();
    let (none, mut news) = insights.follow_for_replica("a");
    assert_eq!(none, []);
    for second in 1..1000 {
        here(&insights, &connected(second));
    }
    let second = std::time::Duration::from_secs(1);
    assert_eq!(timeout(second, news.next()).await.unwrap(), [proxy()].into());
    assert_eq!(insights.for_replica("a", &proxy()), Some(connected(999)));
    // What happens all the time is no news, nor is what does not change.
    insights.count(&proxy(), |own| own.responses += 1);
    here(&insights, &ProxyInsight { responses: 1, ..connected(999) });
    assert!(timeout(std::time::Duration::from_millis(50), news.next()).await.is_err());
    insights.remove(&proxy());
    assert_eq!(timeout(second, news.next()).await.unwrap(), [proxy()].into());
}

#[test]
fn whom_a_proxy_let_in_at_another_replica_is_told_apart_from_what_others_go_by() {
    let insights = heard(&[("a", connected(10))]);
    let stream = insights.joined("a");
    let let_in = UnauthenticatedPeer {
        port: 80,
        transport: ursa_crds::PeerTransport::Plaintext,
        address: None,
        dataplane: None,
        count: 1,
        last_seen: at(11),
    };
    let insight = ProxyInsight { unauthenticated_peers: [let_in].into(), ..connected(10) };
    let take = |insight: &ProxyInsight| {
        insights.take("a", stream, vec![(proxy(), "v".into(), insight.clone())], vec![])
    };
    assert_eq!(take(&insight), Some(vec![(proxy(), false)]));
    assert_eq!(take(&ProxyInsight { connected: false, ..insight.clone() }), Some(vec![(proxy(), true)]));
    assert_eq!(insights.get(&proxy()).unwrap().unauthenticated_peers, insight.unauthenticated_peers);
}
