//! What settings can be wrong about, though each field is well formed.

use crate::Settings;
use crate::annotations::LOG_LEVELS;

/// Why settings cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct SettingsError {
    field: &'static str,
    message: String,
}

impl Settings {
    /// Whether sidecars can be made with them; what is found first is told.
    pub fn check(&self) -> Result<(), SettingsError> {
        let Self { image, image_pull_policy, control_plane, mode: _, resources: _, log_level } = self;
        let require = |holds: bool, field, message: &str| {
            holds.then_some(()).ok_or_else(|| SettingsError { field, message: message.to_owned() })
        };
        require(!image.trim().is_empty(), "image", "must name the image of the sidecar")?;
        let policies = [None, Some("Always"), Some("IfNotPresent"), Some("Never")];
        let known = policies.contains(&image_pull_policy.as_deref());
        require(known, "imagePullPolicy", "must be Always, IfNotPresent or Never")?;
        let address = control_plane.address.strip_prefix("https://").is_some_and(|rest| rest.contains(':'));
        require(address, "controlPlane.address", "must be https://HOST:PORT")?;
        let certificate = control_plane.ca_pem.contains("-----BEGIN CERTIFICATE-----");
        require(certificate, "controlPlane.caPem", "must hold a certificate in PEM")?;
        let levels = LOG_LEVELS.join(", ");
        require(LOG_LEVELS.contains(&log_level.as_str()), "logLevel", &format!("must be one of {levels}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ControlPlaneAccess, SidecarMode};

    #[test]
    fn what_is_wrong_is_named_by_its_field() {
        let pem = "-----BEGIN CERTIFICATE-----\n";
        let good = Settings {
            image: "ursa-dp:1".into(),
            image_pull_policy: None,
            control_plane: ControlPlaneAccess { address: "https://ursa:5678".into(), ca_pem: pem.into() },
            mode: SidecarMode::Native,
            resources: None,
            log_level: "info".into(),
        };
        assert_eq!(good.check(), Ok(()));
        let error = |change: fn(&mut Settings)| {
            let mut settings = good.clone();
            change(&mut settings);
            settings.check().unwrap_err().to_string()
        };
        assert!(error(|s| s.image = " ".into()).starts_with("image: "));
        assert!(error(|s| s.image_pull_policy = Some("always".into())).starts_with("imagePullPolicy: "));
        assert!(
            error(|s| s.control_plane.address = "ursa:5678".into()).starts_with("controlPlane.address: ")
        );
        assert!(error(|s| s.control_plane.ca_pem = String::new()).starts_with("controlPlane.caPem: "));
        assert!(error(|s| s.log_level = "loud".into()).starts_with("logLevel: "));
    }
}
