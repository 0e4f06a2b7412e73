//! What a person is told once the demo is up.

use std::fmt::Write as _;

use crate::Demo;

/// Addresses to open and commands to try.
pub fn text(demo: &Demo) -> String {
    let endpoints = demo.endpoints();
    let mut text = String::from("\nOpen in a browser:\n");
    for (name, zone) in &endpoints.zones {
        let _ = writeln!(text, "  {:<32} counter of zone {name}", zone.demo_app);
    }
    let api = &endpoints.global.api;
    let token = endpoints.global.admin_token_file.display();
    let _ = write!(text, "\nTry:\n");
    for zone in endpoints.zones.values() {
        let _ = writeln!(text, "  curl -X POST {}/increment", zone.demo_app);
    }
    let _ = write!(
        text,
        "  curl -H \"Authorization: Bearer $(cat '{token}')\" {api}/meshes/default\n  \
         curl -H \"Authorization: Bearer $(cat '{token}')\" {api}/meshes/default/dataplanes\n\n\
         Logs: {}\nCtrl-C ends everything.",
        demo.logs().display(),
    );
    text
}
