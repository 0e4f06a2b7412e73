//! The resources of one proxy: references to what all proxies share, in order.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::resource::{Resource, ResourceKey, ResourceType};

/// Resources of one proxy, ordered by key.
#[derive(Clone, Debug, Default)]
pub struct ResourceSet(Vec<Arc<Resource>>);

impl ResourceSet {
    fn find(&self, key: &ResourceKey) -> Result<usize, usize> {
        self.0.binary_search_by(|resource| resource.key.cmp(key))
    }

    /// The resource of this key.
    pub fn get(&self, key: &ResourceKey) -> Option<&Arc<Resource>> {
        self.find(key).ok().map(|position| &self.0[position])
    }

    /// Puts a resource into the place of the one of its key, or where it belongs.
    pub fn insert(&mut self, resource: Arc<Resource>) {
        match self.find(&resource.key) {
            Ok(position) => self.0[position] = resource,
            Err(position) => self.0.insert(position, resource),
        }
    }

    /// Leaves out the resource of this key.
    pub fn remove(&mut self, key: &ResourceKey) {
        if let Ok(position) = self.find(key) {
            self.0.remove(position);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All, in order.
    pub fn values(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.0.iter()
    }

    /// All, in order.
    pub fn into_values(self) -> impl Iterator<Item = Arc<Resource>> {
        self.0.into_iter()
    }

    /// Those of one type, in order.
    pub fn of_type(&self, resource_type: ResourceType) -> &[Arc<Resource>] {
        let start = self.0.partition_point(|resource| resource.key.resource_type < resource_type);
        let end = self.0.partition_point(|resource| resource.key.resource_type <= resource_type);
        &self.0[start..end]
    }

    /// What is not the same in two sets, in order: of this one, and of the other.
    pub fn differences<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = (Option<&'a Arc<Resource>>, Option<&'a Arc<Resource>>)> {
        let (mut own, mut others) = (self.0.iter().peekable(), other.0.iter().peekable());
        std::iter::from_fn(move || {
            loop {
                let order = match (own.peek(), others.peek()) {
                    (None, None) => return None,
                    (Some(_), None) => Ordering::Less,
                    (None, Some(_)) => Ordering::Greater,
                    (Some(a), Some(b)) if Arc::ptr_eq(a, b) => Ordering::Equal,
                    (Some(a), Some(b)) => a.key.cmp(&b.key),
                };
                match order {
                    Ordering::Less => return Some((own.next(), None)),
                    Ordering::Greater => return Some((None, others.next())),
                    Ordering::Equal => {
                        let (a, b) = (own.next()?, others.next()?);
                        if !Arc::ptr_eq(a, b) && a.version != b.version {
                            return Some((Some(a), Some(b)));
                        }
                    }
                }
            }
        })
    }
}

impl FromIterator<Arc<Resource>> for ResourceSet {
    /// Of several with one key the last counts.
    fn from_iter<I: IntoIterator<Item = Arc<Resource>>>(resources: I) -> Self {
        let mut all: Vec<Arc<Resource>> = resources.into_iter().collect();
        all.reverse();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all.dedup_by(|a, b| a.key == b.key);
        all.shrink_to_fit();
        Self(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Any;

    fn resource(resource_type: ResourceType, name: &str, version: &str) -> Arc<Resource> {
        let key = ResourceKey { resource_type, name: name.into() };
        Arc::new(Resource { key, version: version.into(), body: Any::default() })
    }

    #[test]
    fn a_set_is_in_order_and_of_one_key_the_last_counts() {
        use ResourceType::{Cluster, Listener, Route};
        let mut set: ResourceSet = [
            resource(Route, "r", "1"),
            resource(Cluster, "b", "1"),
            resource(Cluster, "a", "1"),
            resource(Cluster, "b", "2"),
        ]
        .into_iter()
        .collect();
        let said = |set: &ResourceSet| -> Vec<String> {
            set.values().map(|resource| format!("{}{}", resource.key.name, resource.version)).collect()
        };
        assert_eq!(said(&set), ["a1", "b2", "r1"]);
        let before = set.clone();
        set.insert(resource(Listener, "l", "1"));
        set.insert(resource(Cluster, "a", "3"));
        set.remove(&ResourceKey { resource_type: Route, name: "r".into() });
        assert_eq!(said(&set), ["a3", "b2", "l1"]);
        assert_eq!(set.of_type(Cluster).len(), 2);
        let name = |resource: Option<&Arc<Resource>>| resource.map(|resource| resource.key.name.clone());
        let differences: Vec<_> = before.differences(&set).map(|(a, b)| (name(a), name(b))).collect();
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(differences, [(some("a"), some("a")), (None, some("l")), (some("r"), None)]);
        assert_eq!(before.differences(&before.clone()).count(), 0);
    }
}
