//! Where the programs are that the demo starts.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The programs of a demo, as paths.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The control plane.
    pub ursa_cp: PathBuf,
    /// The agent beside Envoy.
    pub ursa_dp: PathBuf,
    /// The command line for users.
    pub ursactl: PathBuf,
    /// This program: the application, and the parent-death wrapper.
    pub ursa_demo: PathBuf,
    /// Envoy.
    pub envoy: PathBuf,
    /// Redis.
    pub redis_server: PathBuf,
}

impl Programs {
    /// Ursa's own lie beside the program that runs; Envoy is `envoy`, else what `URSA_ENVOY` names, else in PATH.
    pub fn find(envoy: Option<&Path>) -> anyhow::Result<Self> {
        let this = env::current_exe().context("cannot tell where this program lies")?;
        let folder = this.parent().context("a program lies in a folder")?;
        // A test lies one folder deeper.
        let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
        let own = |name: &str| {
            let path = folder.join(name);
            let missing =
                || format!("{} is missing: run `cargo build --workspace` (or `make build`)", path.display());
            path.is_file().then(|| path.clone()).with_context(missing)
        };
        let envoy = match (envoy, env::var_os("URSA_ENVOY")) {
            (Some(path), _) => Some(path.to_owned()),
            (None, Some(path)) if !path.is_empty() => Some(path.into()),
            _ => in_path("envoy"),
        };
        Ok(Self {
            ursa_cp: own("ursa-cp")?,
            ursa_dp: own("ursa-dp")?,
            ursactl: own("ursactl")?,
            ursa_demo: own("ursa-demo")?,
            envoy: envoy.filter(|path| path.is_file()).context(
                "no Envoy: run `scripts/install-envoy` and set URSA_ENVOY to the path that it prints",
            )?,
            redis_server: in_path("redis-server")
                .context("no redis-server in PATH: run `scripts/install-redis`")?,
        })
    }
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let program = |folder: PathBuf| Some(folder.join(OsStr::new(name))).filter(|program| program.is_file());
    env::split_paths(&path).find_map(program)
}
