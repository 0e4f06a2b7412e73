//! Keys that a restored backup brings count at once, in every replica.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use ursa_identity::{ServedCertificate, ServerTls, Tokens};
use ursa_store::Store;
use ursa_store::names::{SERVER_TLS, TOKEN_SIGNING_KEY};

use crate::run::{write_admin_token, write_ca};

/// What follows the store's keys.
pub(crate) struct Keys {
    pub(crate) store: Store,
    pub(crate) tokens: Arc<Tokens>,
    /// The certificate that the control plane made for itself, and the names in it; `None`: it comes from files.
    pub(crate) own_tls: Option<(ServedCertificate, Vec<String>)>,
    pub(crate) data_dir: PathBuf,
}

impl Keys {
    /// From now on.
    pub(crate) fn follow(self) {
        tokio::spawn(async move {
            let mut changes = self.store.private_changes();
            let mut authority = None;
            loop {
                if let Err(error) = self.take_tokens() {
                    tracing::error!(error = %format!("{error:#}"), "the key of tokens cannot be used; the former one stays");
                }
                if let Err(error) = self.take_tls(&mut authority).await {
                    tracing::error!(error = %format!("{error:#}"), "the restored certificate cannot be used; the former one stays");
                }
                if changes.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    fn take_tokens(&self) -> anyhow::Result<()> {
        let Some(stored) = self.store.private(TOKEN_SIGNING_KEY) else { return Ok(()) };
        if self.tokens.replace(std::str::from_utf8(&stored)?)? {
            tracing::info!("tokens of another key count from now on: a backup was restored");
            write_admin_token(&self.data_dir, &self.tokens)?;
        }
        Ok(())
    }

    /// `authority`: the one whose certificate is shown, once it is known. Replicas may have other names in theirs; that is no
    /// reason to write it again and again.
    async fn take_tls(&self, authority: &mut Option<String>) -> anyhow::Result<()> {
        let Some((served, names)) = &self.own_tls else { return Ok(()) };
        let Some(stored) = self.store.private(SERVER_TLS) else { return Ok(()) };
        let stored = ServerTls::from_private_json(std::str::from_utf8(&stored)?)?;
        if authority.is_none() {
            *authority = Some(stored.ca_pem().to_owned());
        }
        if authority.as_deref() == Some(stored.ca_pem()) {
            return Ok(());
        }
        // Of the restored authority, under the names that this control plane has.
        let before = stored.to_private_json();
        let tls = stored.renewed(names, Timestamp::now())?;
        served.replace(tls.cert_pem(), tls.key_pem())?;
        write_ca(&self.data_dir, &tls)?;
        *authority = Some(tls.ca_pem().to_owned());
        tracing::info!("the server shows a certificate of another authority: a backup was restored");
        let json = tls.to_private_json();
        if json != before {
            self.store.private_put(SERVER_TLS, json.into_bytes()).await?;
        }
        Ok(())
    }
}
