//! That a stream lives is proved by data: whoever is silent, or does not read, is let go.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::time::Duration;

use common::fake::Fake;
use common::objects;
use common::raw::RawZone;
use common::{PATIENCE, World, put};
use tokio::time::{Instant, interval, timeout};
use tonic::Code;
use ursa_proto::sync::{Ping, from_zone};
use ursa_sync::global::SILENCE;

/// What silence may take to be noticed, on a machine that has much to do.
const NOTICED_WITHIN: Duration = Duration::from_secs(12);

#[tokio::test]
async fn a_silent_zone_is_let_go_and_one_that_pings_stays() {
    let world = World::start().await;
    let mut silent = RawZone::connect(&world, "east").await;
    let mut lively = RawZone::connect(&world, "west").await;
    let start = Instant::now();
    silent.fall_silent();
    // The lively one pings by itself.
    let status = silent.next().await.expect_err("it ends");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(status.message().contains("silent"), "{status:?}");
    let after = start.elapsed();
    assert!(after > SILENCE / 2 && after < NOTICED_WITHIN, "{after:?}");
    world.until_seen("east", false).await;
    lively.ping().await;
    assert!(world.global.zones()["west"].connected);
}

#[tokio::test]
async fn a_zone_that_says_nothing_at_all_is_let_go() {
    let world = World::start().await;
    let authorization = format!("Bearer {}", world.token("east").await);
    let before = world.everything();
    let address = format!("https://{}", world.server.address);
    let channel = ursa_proto::connect(&address, &world.server.ca_file).await.unwrap();
    let (_open, messages) = tokio::sync::mpsc::channel(1);
    let mut request = tonic::Request::new(tokio_stream::wrappers::ReceiverStream::new(messages));
    request.metadata_mut().insert("authorization", authorization.parse().unwrap());
    let mut client = ursa_proto::sync::sync_client::SyncClient::new(channel);
    let mut stream = client.stream(request).await.unwrap().into_inner();
    let status = timeout(NOTICED_WITHIN, stream.message()).await.expect("it ends").unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(world.everything() == before);
}

#[tokio::test]
async fn a_zone_leaves_a_global_that_is_silent() {
    let mut fake = Fake::start().await;
    let mut east = fake.zone("east");
    let (mut stream, _) = fake.accept().await;
    stream.welcome(Vec::new()).await;
    east.until_connected(true).await;
    let start = Instant::now();
    // It goes on to ping, and is not answered.
    let Some(from_zone::Message::Ping(_)) = stream.next().await else { panic!("it pings") };
    timeout(NOTICED_WITHIN, east.until_connected(false)).await.expect("it notices");
    assert!(start.elapsed() > SILENCE / 2, "{:?}", start.elapsed());
    let ended = async { while stream.next().await.is_some() {} };
    timeout(PATIENCE, ended).await.expect("it ends the stream");
    // And it comes back by itself.
    let (stream, hello) = fake.accept().await;
    assert_eq!(hello.zone, "east");
    stream.welcome(Vec::new()).await;
    east.until_connected(true).await;
}

#[tokio::test]
async fn a_zone_leaves_a_global_that_never_welcomes_it() {
    let mut fake = Fake::start().await;
    let east = fake.zone("east");
    let (mut stream, _) = fake.accept().await;
    let ended = timeout(NOTICED_WITHIN, stream.next()).await.expect("it notices");
    assert_eq!(ended, None);
    assert!(!east.connected.borrow().is_connected(), "it never was connected");
    fake.accept().await;
}

#[tokio::test]
async fn a_zone_that_never_reads_is_let_go_and_holds_up_nobody() {
    let world = World::start().await;
    // More than the network holds for a reader that never comes.
    for number in 0..400 {
        put(&world.store, objects::large_permission(&format!("p-{number}"), 10_000)).await;
    }
    let mut west = RawZone::with(&world, "west", Vec::new()).await;
    let deaf = RawZone::with(&world, "east", Vec::new()).await;
    assert_eq!(west.take().await.len(), 401);
    let mut pings = interval(Duration::from_millis(100));
    let world_sees = async { world.until_seen("east", false).await };
    tokio::pin!(world_sees);
    let mut added = 0;
    let wait = async {
        loop {
            tokio::select! {
                () = &mut world_sees => return,
                _ = pings.tick() => {
                    let message = from_zone::Message::Ping(Ping { nonce: 1 });
                    let _ = timeout(Duration::from_millis(10), deaf.send(message)).await;
                    added += 1;
                    put(&world.store, objects::permission(&format!("later-{added}"))).await;
                    assert_eq!(west.take().await, [format!("+TrafficPermission later-{added}")]);
                    west.ping().await;
                }
            }
        }
    };
    timeout(PATIENCE, wait).await.expect("it is let go");
    assert!(added > 10, "west was served all the while: {added}");
}
