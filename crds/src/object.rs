//! An object as the control plane holds it: metadata with definite fields, and a decoded specification.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{API_VERSION, Kind, Scope, Spec};

/// Names an object in a store. Ordered by kind, mesh, namespace, name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// The kind.
    pub kind: Kind,
    /// The mesh; empty for kinds of global scope.
    pub mesh: String,
    /// The namespace; empty where there is none (always so outside Kubernetes).
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// The key of a mesh.
    pub fn mesh(name: &str) -> Self {
        Self { kind: Kind::Mesh, mesh: String::new(), namespace: String::new(), name: name.to_owned() }
    }

    /// The key of a zone.
    pub fn zone(name: &str) -> Self {
        Self { kind: Kind::Zone, mesh: String::new(), namespace: String::new(), name: name.to_owned() }
    }

    /// The key of what global observes of a zone.
    pub fn zone_insight(zone: &str) -> Self {
        Self { kind: Kind::ZoneInsight, ..Self::zone(zone) }
    }

    /// The key of an object in a mesh, outside Kubernetes.
    pub fn in_mesh(kind: Kind, mesh: &str, name: &str) -> Self {
        Self { kind, mesh: mesh.to_owned(), namespace: String::new(), name: name.to_owned() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind)?;
        for part in [&self.mesh, &self.namespace] {
            if !part.is_empty() {
                write!(f, "{part}/")?;
            }
        }
        f.write_str(&self.name)
    }
}

/// Metadata of an object. What the server sets is zero or `None` until it has been stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meta {
    /// The name: a DNS subdomain.
    pub name: String,
    /// The namespace, where there are any.
    pub namespace: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Set at creation; another object under the same name has another one.
    pub uid: String,
    /// Counts changes of the specification, from 1.
    pub generation: u64,
    /// The store's revision at the last write; in a request, what the writer believes it to be (0: says nothing).
    pub resource_version: u64,
    /// Time of creation.
    pub created: Option<Timestamp>,
}

/// An object of any kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Metadata.
    pub meta: Meta,
    /// Specification.
    pub spec: Spec,
}

impl Object {
    /// Whether it is the dataplane of a pod: there is no resource that somebody wrote.
    pub fn is_discovered(&self) -> bool {
        matches!(&self.spec, Spec::Dataplane(spec) if spec.pod.is_some())
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.spec.kind()
    }

    /// The key under which a store holds it.
    pub fn key(&self) -> ObjectKey {
        let kind = self.kind();
        let mesh = match kind.info().scope {
            Scope::Global => "",
            Scope::Mesh => self.spec.mesh().expect("a kind in a mesh carries spec.mesh"),
        };
        ObjectKey {
            kind,
            mesh: mesh.to_owned(),
            namespace: self.meta.namespace.clone(),
            name: self.meta.name.clone(),
        }
    }

    /// The resource as users see it: `apiVersion, kind, metadata, spec`; fields that were never set are left out, and
    /// so is what a `Secret` holds.
    pub fn to_value(&self) -> Value {
        let mut value = self.to_stored_value();
        if let Spec::Secret(_) = &self.spec
            && let Some(spec) = value["spec"].as_object_mut()
        {
            spec.remove("value");
        }
        value
    }

    /// The resource with its secrets: for a store, and for nobody else.
    pub fn to_stored_value(&self) -> Value {
        let Meta { name, namespace, labels, annotations, uid, generation, resource_version, created } =
            &self.meta;
        let mut meta = Map::new();
        meta.insert("name".into(), json!(name));
        let texts = [("namespace", namespace), ("uid", uid)];
        meta.extend(texts.into_iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| (k.to_owned(), json!(v))));
        let maps = [("labels", labels), ("annotations", annotations)];
        meta.extend(maps.into_iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| (k.to_owned(), json!(v))));
        if *generation > 0 {
            meta.insert("generation".into(), json!(generation));
        }
        if *resource_version > 0 {
            meta.insert("resourceVersion".into(), json!(resource_version.to_string()));
        }
        if let Some(created) = created {
            meta.insert(
                "creationTimestamp".into(),
                json!(created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            );
        }
        json!({"apiVersion": API_VERSION, "kind": self.kind().info().name, "metadata": meta, "spec": self.spec})
    }
}
