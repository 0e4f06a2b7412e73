//! The config file: which control planes there are, and the current one. It holds names of files, never a token.
//!
//! Invariant: as it decides where tokens go, one that others may change is not read.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use crate::args::Common;
use crate::environment::Environment;
use crate::failure::usage;
use crate::files::write_private;

/// What ursactl knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Config {
    /// The control plane that commands go to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// All, ordered by name.
    #[serde(default)]
    pub(crate) control_planes: Vec<ControlPlane>,
}

/// A control plane. Relative files are found from the folder of the config file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ControlPlane {
    /// The user's name for it.
    pub(crate) name: String,
    /// Its REST API.
    pub(crate) url: String,
    /// The authorities to trust, PEM; the system's if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
    /// The file with the user's token.
    pub(crate) token_file: PathBuf,
}

/// Where the config file is.
pub(crate) fn path(common: &Common, environment: &Environment) -> anyhow::Result<PathBuf> {
    let named = common.config_file.as_ref().or(environment.config_file.as_ref());
    let of_home = || environment.home.as_ref().map(|home| home.join(".ursa/config.yaml"));
    named.cloned().or_else(of_home).ok_or_else(|| {
        usage("HOME is not set: say where the config file is, by --config-file or URSA_CONFIG")
    })
}

impl Config {
    /// Reads the file; one that does not exist knows nothing.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot read the config file {}", path.display());
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            text => text.with_context(cannot)?,
        };
        let mode = fs::metadata(path).with_context(cannot)?.permissions().mode();
        ensure!(mode & 0o022 == 0, "others may change the config file {0}: chmod 600 {0}", path.display());
        let mut config: Self = match text.trim() {
            "" => Self::default(),
            text => serde_saphyr::from_str(text)
                .with_context(|| format!("the config file {} cannot be understood", path.display()))?,
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        for known in &mut config.control_planes {
            known.token_file = folder.join(&known.token_file);
            known.ca_file = known.ca_file.take().map(|file| folder.join(file));
        }
        Ok(config)
    }

    /// Writes the file whole or not at all, for its owner only; a folder that is missing is made likewise.
    pub(crate) fn save(&self, path: &Path) -> anyhow::Result<()> {
        let write = || -> anyhow::Result<()> {
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            }
            Ok(write_private(path, serde_saphyr::to_string(self)?.as_bytes())?)
        };
        write().with_context(|| format!("cannot write the config file {}", path.display()))
    }

    /// The control plane of this name.
    pub(crate) fn find(&self, name: &str) -> Option<&ControlPlane> {
        self.control_planes.iter().find(|known| known.name == name)
    }

    /// The one that commands go to, if there is one.
    pub(crate) fn current(&self) -> anyhow::Result<Option<&ControlPlane>> {
        let Some(name) = &self.current else { return Ok(None) };
        let known = self.find(name).ok_or_else(|| {
            usage(format!(
                "the current control plane {name:?} is not in the config file: ursactl config control-planes switch"
            ))
        })?;
        Ok(Some(known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Config {
        let control_plane = |name: &str, ca: Option<&str>| ControlPlane {
            name: name.into(),
            url: "https://cp.example:5682".into(),
            ca_file: ca.map(PathBuf::from),
            token_file: "/t/token".into(),
        };
        Config {
            current: Some("a".into()),
            control_planes: vec![control_plane("a", None), control_plane("no", Some("/t/ca.pem"))],
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_saved_is_loaded_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/config.yaml");
        assert_eq!(Config::load(&path).unwrap(), Config::default());
        for config in [known(), Config::default(), known()] {
            config.save(&path).unwrap();
            assert_eq!(Config::load(&path).unwrap(), config);
        }
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let files = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(files, 1, "nothing temporary stays");
    }

    #[test]
    fn a_file_that_others_may_change_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        known().save(&path).unwrap();
        for (bits, read) in [(0o620, false), (0o602, false), (0o644, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
            assert_eq!(Config::load(&path).is_ok(), read, "{bits:o}");
        }
        known().save(&path).unwrap();
        assert_eq!(mode(&path), 0o600, "writing makes it private again");
    }

    #[test]
    fn files_are_found_from_the_folder_of_the_config() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        fs::write(&path, "controlPlanes: [{name: a, url: u, caFile: ca.pem, tokenFile: sub/token}]").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let config = Config::load(&path).unwrap();
        assert_eq!(config.control_planes[0].token_file, folder.path().join("sub/token"));
        assert_eq!(config.control_planes[0].ca_file, Some(folder.path().join("ca.pem")));
        assert_eq!(config.current().unwrap(), None);
    }

    #[test]
    fn a_mistake_is_named_and_a_current_one_must_exist() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        fs::write(&path, "controlPlanes: [{name: a, url: u, tokenFile: t, token: x}]").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = format!("{:#}", Config::load(&path).unwrap_err());
        assert!(error.contains("config.yaml") && error.contains("token"), "{error}");
        let gone = Config { current: Some("b".into()), ..known() };
        assert!(gone.current().unwrap_err().to_string().contains("\"b\""));
    }
}
