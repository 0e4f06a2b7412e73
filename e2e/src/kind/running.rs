//! The tests' program in a pod or on a virtual machine, as long as it runs.

use std::process::Stdio;

use anyhow::Context as _;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use super::SOON;

/// The tests' program, running elsewhere.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: tokio::io::Lines<BufReader<ChildStdout>>,
}

impl Running {
    /// Starts it, and waits until it has said its first line.
    pub(crate) async fn start(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let first = tokio::time::timeout(SOON, lines.next_line()).await.context("it does not begin")??;
        first.context("it ended before it began")?;
        Ok(Self { child, lines })
    }

    /// Ends it: what it says at last.
    pub async fn stop(mut self) -> anyhow::Result<Value> {
        drop(self.child.stdin.take());
        self.said().await
    }

    /// Ends what says nothing at last.
    pub async fn end(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        tokio::time::timeout(SOON, self.child.wait()).await.context("it does not end")??;
        Ok(())
    }

    /// Waits for what it says next.
    pub async fn said(&mut self) -> anyhow::Result<Value> {
        let line =
            tokio::time::timeout(SOON * 3, self.lines.next_line()).await.context("it does not end")??;
        Ok(serde_json::from_str(&line.context("it ended without a word")?)?)
    }

    /// Ends a load: how many calls were answered. Fails if one was not.
    pub async fn answered_all(self) -> anyhow::Result<u64> {
        let said = self.stop().await?;
        anyhow::ensure!(said["failed"] == 0, "calls failed under load: {said}");
        let answered = said["answered"].as_u64().unwrap_or_default();
        anyhow::ensure!(answered > 0, "nothing was called: {said}");
        println!("{answered} calls, none failed");
        Ok(answered)
    }
}
