//! What a capture does, the same with each backend.

use crate::world::{APP, Backend, PROXY, RESOLVER, World};

type Case = fn(&World);

/// All cases, by the rule they show.
pub(crate) const CASES: &[(&str, Case)] = &[
    ("without_a_capture_everything_is_reached_plainly", everything_is_reached_plainly),
    ("what_others_than_the_proxy_send_goes_to_its_outbound_side", outgoing_is_captured),
    ("what_the_proxy_sends_is_not_captured", the_proxy_is_not_captured),
    ("what_excluded_users_send_is_not_captured", excluded_users_pass),
    ("excluded_ports_and_addresses_pass", exclusions_pass),
    ("with_included_addresses_all_others_pass", only_included_addresses_are_captured),
    ("loopback_is_not_captured", loopback_is_not_captured),
    ("what_arrives_goes_to_the_inbound_side", incoming_is_captured),
    ("what_is_forwarded_for_others_passes", forwarding_is_not_captured),
    ("a_workload_that_calls_itself_meets_a_proxy_only_as_a_service", self_calls_are_incoming),
    ("dns_goes_to_the_agent_wherever_the_resolver_is", dns_is_captured),
    ("resolvers_that_are_reached_by_translation_are_captured_too", translated_resolvers_are_captured),
    ("the_agents_own_questions_are_not_taken_for_captured_ones", dns_conntrack_is_apart),
    ("open_connections_live_on", open_connections_live_on),
    ("up_twice_is_up_once", up_twice_is_up_once),
    ("up_with_other_settings_replaces_the_first", other_settings_replace),
    ("what_is_turned_off_is_left_alone", parts_are_left_alone),
    ("a_host_that_has_ipv6_turned_off_is_captured_too", ipv6_may_be_off),
    ("down_removes_all_that_was_made_and_nothing_else", down_restores),
    ("another_backend_takes_over", backends_take_over),
    ("who_may_not_is_told_what_to_do", rights_are_asked_for),
];

fn everything_is_reached_plainly(world: &World) {
    for address in ["10.9.0.2:80", "[fd09::2]:80", "10.8.0.2:8080", "[fd08::2]:8080"] {
        assert_eq!(world.sent(APP, address), format!("remote {address}"));
    }
    for address in ["10.9.0.1:80", "[fd09::1]:80", "10.9.0.1:9090"] {
        assert_eq!(world.received(address), format!("app {address}"));
    }
    assert_eq!(world.asked(APP, "10.9.0.2:53"), "resolver");
    assert_eq!(world.asked(APP, "[fd09::2]:53"), "resolver");
    assert_eq!(world.asked(APP, "127.0.0.53:53"), "local");
    assert_eq!(world.sent(APP, "127.0.0.53:53"), "local 127.0.0.53:53");
}

fn outgoing_is_captured(world: &World) {
    world.up(&[]);
    // Also to ports and addresses at which nobody listens.
    for address in ["10.9.0.2:80", "[fd09::2]:80", "10.8.0.2:8080", "192.0.2.1:1", "[2001:db8::1]:65535"] {
        assert_eq!(world.sent(APP, address), format!("outbound {address}"));
        assert_eq!(world.sent(0, address), format!("outbound {address}"));
    }
}

fn the_proxy_is_not_captured(world: &World) {
    world.up(&[]);
    for address in ["10.9.0.2:80", "[fd09::2]:80"] {
        assert_eq!(world.sent(PROXY, address), format!("remote {address}"));
    }
    assert_eq!(world.sent(PROXY, "10.9.0.2:53"), "resolver 10.9.0.2:53");
    assert_eq!(world.asked(PROXY, "10.9.0.2:53"), "resolver");
    assert_eq!(world.asked(PROXY, "[fd09::2]:53"), "resolver");
    assert_eq!(world.asked(PROXY, "127.0.0.53:53"), "local");
    assert_eq!(world.sent(PROXY, "127.0.0.1:80"), "app 127.0.0.1:80");
    assert_eq!(world.sent(PROXY, "[::1]:80"), "app [::1]:80");
}

/// A resolver of the host's own, which the agent asks, must not be sent back to the agent.
fn excluded_users_pass(world: &World) {
    world.up(&["--exclude-uids=1,2000"]);
    for address in ["10.9.0.2:80", "[fd09::2]:80"] {
        assert_eq!(world.sent(RESOLVER, address), format!("remote {address}"));
        assert_eq!(world.sent(APP, address), format!("outbound {address}"));
    }
    assert_eq!(world.sent(RESOLVER, "10.9.0.2:53"), "resolver 10.9.0.2:53");
    for (source, resolver) in [("10.9.0.1:4000", "10.9.0.2:53"), ("[fd09::1]:4000", "[fd09::2]:53")] {
        for _ in 0..2 {
            assert_eq!(world.asked_from(APP, source, resolver), "dns", "{resolver}");
            assert_eq!(world.asked_from(RESOLVER, source, resolver), "resolver", "{resolver}");
        }
    }
    assert_eq!(world.asked(APP, "127.0.0.53:53"), "dns");
    assert_eq!(world.asked(PROXY, "127.0.0.53:53"), "local");
}

fn exclusions_pass(world: &World) {
    world.up(&[
        "--exclude-outbound-ports=1000,8000-8080",
        "--exclude-outbound-cidrs=10.8.0.0/24,fd08::/64",
        "--exclude-inbound-ports=9000-9090",
    ]);
    for address in ["10.9.0.2:8080", "[fd09::2]:8080", "10.8.0.2:80", "[fd08::2]:80"] {
        assert_eq!(world.sent(APP, address), format!("remote {address}"));
    }
    for address in ["10.9.0.2:8081", "10.9.0.2:80", "[fd09::2]:80"] {
        assert_eq!(world.sent(APP, address), format!("outbound {address}"));
    }
    for address in ["10.9.0.1:9090", "[fd09::1]:9090"] {
        assert_eq!(world.received(address), format!("app {address}"));
    }
    assert_eq!(world.received("10.9.0.1:80"), "inbound 10.9.0.1:80");
}

fn only_included_addresses_are_captured(world: &World) {
    world.up(&["--only-outbound-cidrs=10.8.0.0/16,fd08::/16", "--exclude-outbound-ports=8080"]);
    for address in ["10.8.0.2:80", "[fd08::2]:80"] {
        assert_eq!(world.sent(APP, address), format!("outbound {address}"));
    }
    for address in ["10.9.0.2:80", "[fd09::2]:80", "10.8.0.2:8080"] {
        assert_eq!(world.sent(APP, address), format!("remote {address}"));
    }
    assert_eq!(world.asked(APP, "10.9.0.2:53"), "dns");
}

fn loopback_is_not_captured(world: &World) {
    world.up(&[]);
    for address in ["127.0.0.1:80", "127.7.7.7:9090", "[::1]:80"] {
        assert_eq!(world.sent(APP, address), format!("app {address}"));
    }
}

fn incoming_is_captured(world: &World) {
    world.up(&[]);
    for address in ["10.9.0.1:80", "[fd09::1]:80", "10.9.0.1:9090", "10.9.0.1:1"] {
        assert_eq!(world.received(address), format!("inbound {address}"));
    }
    // The proxy's own ports are reached as they are.
    assert_eq!(world.received("10.9.0.1:15001"), "outbound 10.9.0.1:15001");
    assert_eq!(world.received("10.9.0.1:15006"), "inbound 10.9.0.1:15006");
}

fn forwarding_is_not_captured(world: &World) {
    let beyond = world.beyond();
    world.up(&[]);
    assert_eq!(beyond.sent("10.9.0.2:80"), "remote 10.9.0.2:80");
    assert_eq!(world.received("10.7.0.2:80"), "beyond 10.7.0.2:80");
    assert_eq!(beyond.sent("10.7.0.1:80"), "inbound 10.7.0.1:80");
}

fn self_calls_are_incoming(world: &World) {
    world.up(&["--exclude-inbound-ports=9090"]);
    for address in ["10.9.0.1:80", "[fd09::1]:80"] {
        // By its own address it means itself. If it calls a service that it serves, too, the proxy may pick it.
        assert_eq!(world.sent(APP, address), format!("app {address}"));
        assert_eq!(world.sent(PROXY, address), format!("inbound {address}"));
    }
    assert_eq!(world.sent_from(PROXY, "127.0.0.6:0", "10.9.0.1:80"), "app 10.9.0.1:80 127.0.0.6");
    assert_eq!(world.sent_from(PROXY, "127.0.0.6:0", "127.0.0.1:80"), "app 127.0.0.1:80 127.0.0.6");
    assert_eq!(world.sent_from(PROXY, "[::6]:0", "[fd09::1]:80"), "app [fd09::1]:80 ::6");
    assert_eq!(world.sent(PROXY, "10.9.0.1:9090"), "app 10.9.0.1:9090");
    // Nobody sends from that address who did not ask for it.
    let address = world.workload.shell("ip address show dev lo | grep ::6/128");
    assert!(address.contains("deprecated"), "{address}");
}

fn dns_is_captured(world: &World) {
    world.up(&["--exclude-outbound-cidrs=10.9.0.0/24"]);
    for address in
        ["10.9.0.2:53", "[fd09::2]:53", "127.0.0.53:53", "127.0.0.11:53", "[::1]:53", "192.0.2.1:53"]
    {
        assert_eq!(world.asked(APP, address), "dns", "{address}");
        assert_eq!(world.sent(APP, address), format!("dns {address}"));
    }
}

/// As Docker reaches its resolver.
fn translated_resolvers_are_captured(world: &World) {
    let program = world.backend.iptables();
    let translate = |protocol: &str| {
        let rule = format!("-d 127.0.0.11 -p {protocol} --dport 53 -j DNAT --to-destination 127.0.0.53:53");
        world.workload.shell(&format!("{program} -t nat -A OUTPUT {rule}"));
    };
    translate("udp");
    translate("tcp");
    assert_eq!(world.asked(APP, "127.0.0.11:53"), "local");
    world.up(&[]);
    assert_eq!(world.asked(APP, "127.0.0.11:53"), "dns");
    assert_eq!(world.sent(APP, "127.0.0.11:53"), "dns 127.0.0.11:53");
    assert_eq!(world.asked(PROXY, "127.0.0.11:53"), "local");
    assert_eq!(world.sent(PROXY, "127.0.0.11:53"), "local 127.0.0.11:53");
}

fn dns_conntrack_is_apart(world: &World) {
    world.up(&[]);
    for (source, resolver) in [("10.9.0.1:4000", "10.9.0.2:53"), ("[fd09::1]:4000", "[fd09::2]:53")] {
        for _ in 0..2 {
            assert_eq!(world.asked_from(APP, source, resolver), "dns", "{resolver}");
            assert_eq!(world.asked_from(PROXY, source, resolver), "resolver", "{resolver}");
        }
    }
}

fn open_connections_live_on(world: &World) {
    let (mut outgoing, first) = world.workload.hold("10.9.0.2:80");
    assert_eq!(first, "remote 10.9.0.2:80 10.9.0.1");
    let (mut incoming, first) = world.remote.hold("10.9.0.1:80");
    assert_eq!(first, "app 10.9.0.1:80 10.9.0.2");
    world.up(&[]);
    for _ in 0..2 {
        assert_eq!(outgoing.ask(), "remote 10.9.0.2:80 10.9.0.1");
        assert_eq!(incoming.ask(), "app 10.9.0.1:80 10.9.0.2");
    }
    let (mut captured, first) = world.workload.hold("10.9.0.2:80");
    assert_eq!(first, "outbound 10.9.0.2:80 10.9.0.1");
    world.up(&["--exclude-outbound-ports=80"]);
    assert_eq!(captured.ask(), "outbound 10.9.0.2:80 10.9.0.1");
    assert_eq!(world.sent(APP, "10.9.0.2:80"), "remote 10.9.0.2:80");
}

fn up_twice_is_up_once(world: &World) {
    world.up(&["--exclude-inbound-ports=9090"]);
    let once = world.state();
    world.up(&["--exclude-inbound-ports=9090"]);
    assert_eq!(world.state(), once);
    if world.backend == Backend::Nftables {
        // What is sent over netlink is what is printed.
        let (_, script) = world.init(&["print", "--exclude-inbound-ports=9090"]);
        world.workload.shell(&format!("nft -f - <<'END'\n{script}END"));
        assert_eq!(world.state(), once);
    }
}

fn other_settings_replace(world: &World) {
    world.up(&["--exclude-outbound-ports=80"]);
    assert_eq!(world.sent(APP, "10.9.0.2:80"), "remote 10.9.0.2:80");
    assert_eq!(world.received("10.9.0.1:80"), "inbound 10.9.0.1:80");
    world.up(&["--no-dns", "--no-inbound"]);
    assert_eq!(world.sent(APP, "10.9.0.2:80"), "outbound 10.9.0.2:80");
    assert_eq!(world.received("10.9.0.1:80"), "app 10.9.0.1:80");
    assert_eq!(world.asked(APP, "10.9.0.2:53"), "resolver");
    world.down();
    everything_is_reached_plainly(world);
}

fn parts_are_left_alone(world: &World) {
    world.up(&["--no-ipv6", "--no-dns"]);
    assert_eq!(world.sent(APP, "10.9.0.2:80"), "outbound 10.9.0.2:80");
    assert_eq!(world.sent(APP, "[fd09::2]:80"), "remote [fd09::2]:80");
    assert_eq!(world.received("[fd09::1]:80"), "app [fd09::1]:80");
    assert_eq!(world.asked(APP, "10.9.0.2:53"), "resolver");
    assert!(!world.state().contains("::6/128"));
    world.up(&["--no-inbound", "--no-ipv6"]);
    assert_eq!(world.received("10.9.0.1:80"), "app 10.9.0.1:80");
    assert_eq!(world.sent(PROXY, "10.9.0.1:80"), "app 10.9.0.1:80");
    assert_eq!(world.asked(APP, "10.9.0.2:53"), "dns");
    assert_eq!(world.asked(APP, "[fd09::2]:53"), "resolver");
}

fn ipv6_may_be_off(world: &World) {
    world.workload.shell("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6");
    world.up(&[]);
    assert_eq!(world.sent(APP, "10.9.0.2:80"), "outbound 10.9.0.2:80");
    world.down();
    assert_eq!(world.sent(APP, "10.9.0.2:80"), "remote 10.9.0.2:80");
}

fn down_restores(world: &World) {
    // Others' rules, some of them of like names, and chains that ours are called from.
    let program = world.backend.iptables();
    world.workload.shell(&format!(
        "nft add table inet other; nft add chain inet other ursa; nft add table ip ursa
         for version in {program} ip6{}; do
           $version -t nat -N OTHER; $version -t nat -A OUTPUT -p tcp --dport 7 -j OTHER
           $version -t raw -L >/dev/null
         done
         {program} -t nat -A PREROUTING -p tcp --dport 7 -j ACCEPT",
        program.trim_start_matches("ip"),
    ));
    // Base chains that a program makes on its first use are the program's.
    world.up(&[]);
    world.down();
    let before = world.state();
    assert!(!before.to_uppercase().contains("URSA_") && !before.contains("inet ursa"), "{before}");
    assert!(before.contains("-j OTHER") && before.contains("table ip ursa"), "{before}");
    assert!(!before.contains("::6/128"), "{before}");
    everything_is_reached_plainly(world);
    world.up(&[]);
    assert_ne!(world.state(), before);
    world.down();
    assert_eq!(world.state(), before);
    let (done, said) = world.init(&["down"]);
    assert!(done && said.contains("there is no capture"), "{said}");
    assert_eq!(world.state(), before);
}

fn backends_take_over(world: &World) {
    for backend in ["iptables", "nftables", "auto", "iptables"] {
        let (done, said) = world.init(&["up", "--backend", backend]);
        assert!(done, "{said}");
        let state = world.state();
        let (nftables, iptables) = (state.contains("table inet ursa"), state.contains("-j URSA_OUTPUT"));
        assert_eq!(
            (nftables, iptables),
            (backend != "iptables", backend == "iptables"),
            "{backend}: {state}"
        );
        assert_eq!(world.sent(APP, "10.9.0.2:80"), "outbound 10.9.0.2:80");
    }
}

fn rights_are_asked_for(world: &World) {
    let flag = if world.backend == Backend::Nftables { "nftables" } else { "iptables" };
    let before = world.state();
    let own = env!("CARGO_BIN_EXE_ursa-init");
    let line = format!("! setpriv --reuid 1000 --clear-groups {own} up --backend {flag} 2>&1");
    let said = world.workload.shell(&line);
    assert!(said.contains("NET_ADMIN") && said.lines().count() == 1, "{said}");
    assert_eq!(world.state(), before);
}
