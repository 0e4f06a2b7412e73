//! A proxy's resources after a change of its model: what is equal is taken over, the rest is built.
//!
//! Invariant: what comes of it is what [`translate`](crate::translate) makes of the new model.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use ursa_model::ProxyModel;

use crate::resource::{Interner, ResourceKey};
use crate::resource_set::ResourceSet;
use crate::translate::Resources;

/// Brings the resources of a proxy from one model to another. What is in them besides (endpoints) stays.
pub fn translate_after(
    before: &ProxyModel,
    model: &ProxyModel,
    resources: &mut ResourceSet,
    interner: &mut Interner,
) {
    let captured = (before.capture.is_some(), model.capture.is_some());
    let mut change = Change::default();
    change.parts(&before.inbounds, &model.inbounds, captured, |a, b| {
        (a.address, a.port).cmp(&(b.address, b.port))
    });
    change.apply(captured, resources, interner, |out, inbound, captured| {
        out.inbound(inbound, captured);
    });
    let mut change = Change::default();
    change.parts(&before.outbounds, &model.outbounds, captured, |a, b| {
        (a.address, a.port).cmp(&(b.address, b.port))
    });
    change.apply(captured, resources, interner, |out, outbound, captured| {
        out.outbound(outbound, captured);
    });
    let mut change = Change::default();
    let always = (false, false);
    change.parts(&before.destinations, &model.destinations, always, |a, b| a.id.cmp(&b.id));
    change.apply(always, resources, interner, |out, destination, _| out.destination(destination));
    let mut change = Change::default();
    change.parts(before.capture.as_slice(), model.capture.as_slice(), always, |_, _| Ordering::Equal);
    change.apply(always, resources, interner, |out, capture, _| out.capture(capture));
}

/// Parts of a model that are gone, and such that have come.
struct Change<'a, T> {
    gone: Vec<&'a T>,
    come: Vec<&'a T>,
}

impl<T> Default for Change<'_, T> {
    fn default() -> Self {
        Self { gone: Vec::new(), come: Vec::new() }
    }
}

impl<'a, T: PartialEq> Change<'a, T> {
    /// Finds those that differ, of two lists in this order. Parts of one place may share resources: they change together.
    fn parts(
        &mut self,
        mut before: &'a [T],
        mut now: &'a [T],
        captured: (bool, bool),
        order: impl Fn(&T, &T) -> Ordering,
    ) {
        let of_first_place = |parts: &'a [T]| -> (&'a [T], &'a [T]) {
            let first = parts.first();
            let end = parts.iter().take_while(|part| first.is_some_and(|f| order(f, part).is_eq())).count();
            parts.split_at(end)
        };
        loop {
            let order = match (before.first(), now.first()) {
                (None, None) => return,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(a), Some(b)) => order(a, b),
            };
            let (mut old, mut new): (&[T], &[T]) = (&[], &[]);
            if order.is_le() {
                (old, before) = of_first_place(before);
            }
            if order.is_ge() {
                (new, now) = of_first_place(now);
            }
            if captured.0 != captured.1 || old != new {
                self.gone.extend(old);
                self.come.extend(new);
            }
        }
    }

    /// `of`: makes the resources of a part; whether traffic is captured.
    fn apply(
        self,
        captured: (bool, bool),
        resources: &mut ResourceSet,
        interner: &mut Interner,
        of: impl Fn(&mut Resources<'_>, &T, bool),
    ) {
        let mut named = Resources::default();
        self.gone.iter().for_each(|part| of(&mut named, part, captured.0));
        let mut built = Resources::by(interner);
        self.come.iter().for_each(|part| of(&mut built, part, captured.1));
        let (gone, come) = (named.named, built.built);
        let stay: BTreeSet<&ResourceKey> = come.iter().map(|resource| &resource.key).collect();
        for key in gone.iter().filter(|key| !stay.contains(key)) {
            resources.remove(key);
        }
        for resource in come {
            resources.insert(resource);
        }
    }
}
