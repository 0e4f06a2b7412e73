//! The capture in real network namespaces: who answers a connection tells where the kernel sent it.
//!
//! Needs root, and of Debian nftables, iptables, iproute2 and util-linux; without them it fails.
//! The binary has a second life as the processes in the namespaces ([`stand_in`]).

mod cases;
mod stand_in;
mod world;

use libtest_mimic::{Arguments, Trial};

use world::{Backend, World};

fn main() {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if_eq(stand_in::MARK).is_some() {
        stand_in::main(&arguments.collect::<Vec<_>>());
        return;
    }
    let mut trials = Vec::new();
    for backend in Backend::ALL {
        for (name, case) in cases::CASES {
            let run = move || {
                case(&World::new(backend));
                Ok(())
            };
            trials.push(Trial::test(format!("{}::{name}", backend.name()), run));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
