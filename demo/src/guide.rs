//! What a person is told once the demo is up.

use std::fmt::Write as _;

use crate::Demo;

/// The talk, one file of `demo/resources/` each, and what it does; a person applies the same files as the scenario does.
pub const APPLIED: &[(&str, &str)] = &[
    ("mesh-mtls.yaml", "mutual TLS: from now on everything is refused"),
    ("allow-all.yaml", "traffic resumes, and reaches all three zones"),
    ("route-east.yaml", "every request lands in zone east"),
    ("route-half.yaml", "half in aws, half in east"),
    ("only-east.yaml", "only zone east may call"),
    ("allow-all.yaml", "everybody again"),
];

const COMMANDS: &[(&str, &str)] = &[
    ("delete trafficroute redis", "spread over all zones again"),
    ("inspect zones", ""),
    ("inspect services", ""),
    ("inspect dataplanes", ""),
];

/// Addresses to open and commands to try.
pub fn text(demo: &Demo) -> String {
    let endpoints = demo.endpoints();
    let mut text = String::from("\nOpen in a browser, and let each count (there is a switch for traffic):\n");
    for (name, zone) in &endpoints.zones {
        let _ = writeln!(text, "  {:<24} the counter of zone {name}", zone.demo_app);
    }
    let _ = write!(text, "\nOr call it:\n");
    for zone in endpoints.zones.values() {
        let _ = writeln!(text, "  curl -X POST {}/increment", zone.demo_app);
    }
    let _ = writeln!(
        text,
        "\nThen, from another terminal in the project's folder, the talk:\n  export URSA_API={}\n  export \
         URSA_TOKEN_FILE='{}'\n  alias ursactl='{}'",
        endpoints.global.api,
        endpoints.global.admin_token_file.display(),
        demo.programs().ursactl.display(),
    );
    for (file, what) in APPLIED {
        let command = format!("ursactl apply -f demo/resources/{file}");
        let _ = writeln!(text, "  {command:<50} # {what}");
    }
    for (command, what) in COMMANDS {
        let command = format!("ursactl {command}");
        let _ = match *what {
            "" => writeln!(text, "  {command}"),
            what => writeln!(text, "  {command:<50} # {what}"),
        };
    }
    let _ = write!(text, "\nLogs: {}\nCtrl-C ends everything.", demo.logs().display());
    text
}
