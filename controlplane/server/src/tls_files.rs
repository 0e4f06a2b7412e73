//! The server's certificate from files that somebody else renews.

use std::time::Duration;

use anyhow::Context as _;
use ursa_identity::ServedCertificate;

use crate::config::TlsFiles;

/// Volumes of Kubernetes are replaced whole, behind links: looking now and then is simpler than watching, and soon enough.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Reads the files, and again for as long as the process lives.
pub(crate) fn serve(files: TlsFiles) -> anyhow::Result<ServedCertificate> {
    let mut known = read(&files)?;
    let served = ServedCertificate::new(&known.0, &known.1)
        .with_context(|| format!("{} and {}", files.cert.display(), files.key.display()))?;
    let replaced = served.clone();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        loop {
            ticks.tick().await;
            let Ok(now) = read(&files).inspect_err(|error| tracing::warn!(error = %format!("{error:#}")))
            else {
                continue;
            };
            if now == known {
                continue;
            }
            // Certificate and key may be of different times; the next look sees both.
            match replaced.replace(&now.0, &now.1) {
                Ok(()) => {
                    tracing::info!(file = %files.cert.display(), "the server shows another certificate");
                    known = now;
                }
                Err(error) => {
                    tracing::warn!(file = %files.cert.display(), %error, "the former certificate stays");
                }
            }
        }
    });
    Ok(served)
}

fn read(files: &TlsFiles) -> anyhow::Result<(String, String)> {
    let text = |path: &std::path::Path| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    Ok((text(&files.cert)?, text(&files.key)?))
}
