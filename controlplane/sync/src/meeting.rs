//! Who meets whom with which schemas, as first messages say it. Pure.

use ursa_crds::schema::{Party, Schemas};
use ursa_proto::{replicas, sync};

/// Version of this control plane.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// This end.
pub(crate) fn own(name: &str, schemas: Schemas) -> Party {
    Party { name: name.to_owned(), version: VERSION.to_owned(), schemas }
}

pub(crate) fn zone(hello: &sync::ZoneHello) -> Party {
    Party {
        name: format!("zone {}", hello.zone),
        version: hello.version.clone(),
        schemas: Schemas::said(hello.oldest_schema, hello.schema),
    }
}

pub(crate) fn global(welcome: &sync::GlobalWelcome) -> Party {
    Party {
        name: "global".to_owned(),
        version: welcome.version.clone(),
        schemas: Schemas::said(welcome.oldest_schema, welcome.schema),
    }
}

pub(crate) fn replica(hello: &replicas::Hello) -> Party {
    Party {
        name: format!("replica {}", hello.replica),
        version: hello.version.clone(),
        schemas: Schemas::said(hello.oldest_schema, hello.schema),
    }
}
