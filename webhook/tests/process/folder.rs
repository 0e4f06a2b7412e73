//! Certificates and settings as Kubernetes mounts them: links into a folder that is swapped whole.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// An authority, and a server's chain and key by it: each in PEM.
pub(crate) struct Certificates {
    pub(crate) authority: String,
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        Self::of(&["localhost"])
    }

    /// Of a server with these names and addresses.
    pub(crate) fn of(names: &[&str]) -> Self {
        let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = ca.self_signed(&ca_key).unwrap().pem();
        let leaf =
            CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap();
        let chain = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap().pem();
        Self { authority, chain, key: key.serialize_pem() }
    }

    pub(crate) fn files(&self) -> [(&'static str, &str); 2] {
        [("tls.crt", &self.chain), ("tls.key", &self.key)]
    }
}

/// Settings with this image.
pub(crate) fn settings(image: &str) -> String {
    format!(
        "image: '{image}'\ncontrolPlane:\n  address: https://ursa.ursa-system.svc:5678\n  caPem: |\n    -----BEGIN CERTIFICATE-----\n    MIIB\n    -----END CERTIFICATE-----\n"
    )
}

/// Puts these files in a folder, or others in their place, as the kubelet does it.
/// Source: `AtomicWriter` in Kubernetes' `pkg/volume/util/atomic_writer.go`.
pub(crate) fn mount(folder: &Path, files: &[(&str, &str)]) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    let versions = fs::read_dir(folder).unwrap().count();
    let version = format!("..version{versions}");
    fs::create_dir(folder.join(&version)).unwrap();
    for (name, content) in files {
        fs::write(folder.join(&version).join(name), content).unwrap();
        if !folder.join(name).exists() {
            let _ = fs::remove_file(folder.join(name));
            symlink(Path::new("..data").join(name), folder.join(name)).unwrap();
        }
    }
    symlink(&version, folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    folder.to_owned()
}
