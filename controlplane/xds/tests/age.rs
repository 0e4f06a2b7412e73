//! Agents come again now and then, so that they share the replicas that there are.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::time::Duration;

use common::{PATIENCE, World, web_1};
use tokio::time::{Instant, timeout};
use tonic::Code;

#[tokio::test]
async fn a_session_ends_within_its_age_and_after_half_of_it_and_the_next_is_welcome() {
    let age = Duration::from_secs(2);
    let world = World::start_aging(age).await;
    let agent = world.agent(&world.token_of("default", "web-1")).await;
    let begun = Instant::now();
    let mut session = agent.register(web_1()).await.unwrap();
    let end = async {
        loop {
            if let Err(status) = session.next().await {
                return status;
            }
        }
    };
    let end = timeout(age + PATIENCE, end).await.expect("it goes on");
    assert_eq!(end.code(), Code::Aborted, "{end:?}");
    assert!(begun.elapsed() >= age / 2, "{:?}", begun.elapsed());
    agent.register(web_1()).await.unwrap();
}
