//! The Secret that the server's certificate comes from, followed on the API server: a kubelet brings a change of it to pods when it
//! looks next, which may be minutes later; a watch, at once.
//!
//! Invariant: what is read from are files of this process, each whole; they hold what the kubelet brought at the start, then what the
//! Secret holds. What it lacks changes nothing.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use tokio_stream::StreamExt as _;

use crate::config::{Config, TlsFiles};
use crate::files;
use crate::run::client;

/// Below the data folder.
const FOLDER: &str = "served";
const CA: &str = "ca.crt";
const CERT: &str = "tls.crt";
const KEY: &str = "tls.key";
/// As in a Secret of the type `kubernetes.io/tls`, with who may read each; the authority first, by which others are trusted. Some
/// issuers leave it out.
const FILES: [(&str, u32); 3] = [(CA, 0o644), (KEY, 0o600), (CERT, 0o644)];

/// Has certificate, key and authority read from files that follow the Secret, if one is named.
pub(crate) async fn follow(config: &mut Config) -> anyhow::Result<()> {
    let Some(name) = &config.tls_secret else { return Ok(()) };
    let (Some(tls), Some(replica)) = (&mut config.tls_files, &mut config.replica) else { return Ok(()) };
    let folder = config.data_dir.join(FOLDER);
    files::private_folder(&folder)?;
    for ((key, mode), brought) in FILES.into_iter().zip([&replica.ca_file, &tls.key, &tls.cert]) {
        match std::fs::read_to_string(brought) {
            Ok(text) => files::write(&folder.join(key), &text, mode)?,
            Err(_) if key == CA => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", brought.display())),
        }
    }
    *tls = TlsFiles { cert: folder.join(CERT), key: folder.join(KEY) };
    replica.ca_file = folder.join(CA);
    tokio::spawn(take_all(Api::namespaced(client().await?, &config.namespace), name.clone(), folder));
    Ok(())
}

async fn take_all(secrets: Api<Secret>, name: String, folder: PathBuf) {
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = std::pin::pin!(watcher(secrets, only).default_backoff());
    while let Some(event) = events.next().await {
        let taken = match event {
            Ok(Event::InitApply(secret) | Event::Apply(secret)) => take(&secret, &folder),
            // Until there is another, the former is as good.
            Ok(Event::Init | Event::InitDone | Event::Delete(_)) => Ok(()),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = taken {
            let error = format!("{error:#}");
            tracing::warn!(secret = name, error, "cannot follow the Secret of the server's certificate");
        }
    }
}

fn take(secret: &Secret, folder: &Path) -> anyhow::Result<()> {
    let mut held = Vec::new();
    for (key, mode) in FILES {
        match secret.data.as_ref().and_then(|data| data.get(key)) {
            Some(value) => {
                let text = std::str::from_utf8(&value.0).with_context(|| format!("{key} is no text"))?;
                held.push((folder.join(key), text, mode));
            }
            None if key == CA => {}
            None => anyhow::bail!("it has no {key}"),
        }
    }
    held.into_iter().try_for_each(|(path, text, mode)| files::write(&path, text, mode))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    #[test]
    fn what_a_secret_holds_is_written_whole_and_one_that_lacks_something_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let secret = |keys: &[&str], text: &str| Secret {
            data: Some(keys.iter().map(|key| ((*key).to_owned(), ByteString(text.into()))).collect()),
            ..Secret::default()
        };
        let held = || [CA, CERT, KEY].map(|key| std::fs::read_to_string(folder.path().join(key)).unwrap());
        take(&secret(&[CA, CERT, KEY, "other"], "1"), folder.path()).unwrap();
        assert_eq!(held(), ["1", "1", "1"]);
        let lacking = take(&secret(&[CA, CERT], "2"), folder.path()).unwrap_err();
        assert_eq!(lacking.to_string(), "it has no tls.key");
        assert_eq!(held(), ["1", "1", "1"]);
        take(&secret(&[CERT, KEY], "3"), folder.path()).unwrap();
        assert_eq!(held(), ["1", "3", "3"], "an issuer may not say its authority");
        let files = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(files, 3, "nothing is left over");
    }
}
