//! Every seed of every target, and mutations of them that are the same each time.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::panic::catch_unwind;

use ursa_fuzz::{TARGETS, seeds};

/// Inputs of each target.
const INPUTS: usize = 6_000;

/// Numbers that only look random (xorshift64, Marsaglia 2003).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(below.max(1)).unwrap()).unwrap()
    }
}

/// A few changes of bytes, or of their order and number.
fn mutated(seed: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=numbers.next(4) {
        let at = numbers.next(bytes.len());
        match numbers.next(5) {
            0 if !bytes.is_empty() => bytes[at] = u8::try_from(numbers.next(256)).unwrap(),
            1 if !bytes.is_empty() => bytes[at] ^= 1 << numbers.next(8),
            2 => bytes.truncate(at),
            3 => {
                let end = (at + numbers.next(32)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                let to = numbers.next(bytes.len());
                bytes.splice(to..to, part);
            }
            _ => drop(bytes.drain(at..(at + numbers.next(16)).min(seed.len()).min(bytes.len()).max(at))),
        }
    }
    bytes
}

#[test]
fn no_seed_and_no_mutation_of_one_breaks_an_invariant() {
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        assert!(seeds.len() >= 5, "{name} has {} seeds", seeds.len());
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        let (mut count, mutations) = (0, INPUTS / seeds.len());
        for seed in seeds {
            let inputs =
                std::iter::once(seed.clone()).chain((0..mutations).map(|_| mutated(&seed, &mut numbers)));
            for input in inputs {
                count += 1;
                let text = String::from_utf8_lossy(&input);
                assert!(catch_unwind(|| target(&input)).is_ok(), "{name} breaks on {input:?} ({text:?})");
            }
        }
        println!("{name}: {count} inputs");
    }
}
