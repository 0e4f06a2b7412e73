//! The demo-app of a zone, called as its users call it.

use anyhow::{Context as _, bail, ensure};
use reqwest::{Client, StatusCode};
use serde::Deserialize;

use crate::Demo;
use crate::topology::Zone;

/// What `POST /increment` answers.
#[derive(Debug, Deserialize)]
pub(super) struct Counted {
    pub(super) counter: i64,
    /// Of the redis that answered.
    pub(super) zone: String,
    pub(super) app: App,
}

/// Who answered the request itself.
#[derive(Debug, Deserialize)]
pub(super) struct App {
    pub(super) zone: String,
}

#[derive(Deserialize)]
struct Failure {
    error: String,
}

/// How a request went.
#[derive(Debug)]
pub(super) enum Answer {
    Counted(Counted),
    /// 503: redis was not reached, for this reason.
    Failed(String),
}

/// The demo-app of a zone.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// The zone's name.
    pub(super) zone: String,
    url: String,
    client: Client,
}

impl Caller {
    pub(super) fn of(demo: &Demo, zone: &Zone) -> Self {
        let url = format!("http://{}/increment", zone.app());
        Self { zone: zone.name.clone(), url, client: demo.client().clone() }
    }

    /// One increment. Anything but the two answers that the application may give is an error.
    pub(super) async fn increment(&self) -> anyhow::Result<Answer> {
        let response = self.client.post(&self.url).send().await?;
        let status = response.status();
        let text = response.text().await?;
        let strange = || format!("demo-app of zone {} answered {status}: {text}", self.zone);
        match status {
            StatusCode::OK => {
                let counted: Counted = serde_json::from_str(&text).with_context(strange)?;
                ensure!(counted.app.zone == self.zone, strange());
                Ok(Answer::Counted(counted))
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                let failure: Failure = serde_json::from_str(&text).with_context(strange)?;
                Ok(Answer::Failed(failure.error))
            }
            _ => bail!(strange()),
        }
    }
}
