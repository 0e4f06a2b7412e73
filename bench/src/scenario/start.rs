//! A control plane starts over what it has stored.

use std::path::Path;
use std::time::Instant;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;

use super::connect::memory;
use crate::figures::{Sheet, number};
use crate::fleet::Fleet;
use crate::measures as m;
use crate::objects;
use crate::plan::{MESH, Plan, Topology};
use crate::planes::Single;

/// Writes that are under way at the same time.
const AT_ONCE: usize = 64;

pub(super) async fn repetition(size: usize, folder: &Path, sheet: &mut Sheet) -> anyhow::Result<()> {
    let mut single = Single::start(folder).await?;
    let plane = &mut single.plane;
    plane.put(&objects::mesh_path(MESH), &objects::mesh()).await?;
    plane.put(&objects::permission_path(MESH), &objects::permission("*")).await?;
    let stored = stored(size);
    let put = |(path, body): &(String, Value)| {
        let (path, body) = (path.clone(), body.clone());
        let plane = &*plane;
        async move { plane.put(&path, &body).await }
    };
    stream::iter(stored.iter().map(put)).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    plane.stop().await?;

    let from = Instant::now();
    plane.start_again().await?;
    sheet.one(m::START_READY, from.elapsed().as_secs_f64());
    sheet.one(m::START_CPU, plane.cpu()?.as_secs_f64());
    for (path, _) in stored.first().into_iter().chain(stored.last()) {
        plane.has(path).await?;
    }
    let plans = vec![Plan::idle("first", 1)];
    let tokens = Fleet::tokens(plane, &plans).await?;
    let (first, waits) = Fleet::connect(plane, plans, tokens).await?;
    sheet.times(m::START_CLIENT, &waits);
    first.quiet().await?;
    sheet.one(m::STORE_BYTES, number(plane.store_bytes()?));
    memory(plane, sheet)
}

/// Paths and bodies: of ten objects eight are dataplanes, one is a permission and one a route.
fn stored(size: usize) -> Vec<(String, Value)> {
    let dataplanes = size / 10 * 8;
    let policies = (size - dataplanes) / 2;
    let service = |number: usize| format!("service-{number}");
    let plans = Plan::all(("stored", 2), &[MESH], Topology::Ten, dataplanes);
    let dataplane = |plan: Plan| (format!("/meshes/{MESH}/dataplanes/{}", plan.name), plan.resource());
    let permission = |number: usize| {
        let body = objects::permission_between(&service(number), &service(number + 1));
        (format!("/meshes/{MESH}/trafficpermissions/stored-{number}"), body)
    };
    let route = |number: usize| {
        let body = objects::route_between(&service(number), &service(number + 1));
        (format!("/meshes/{MESH}/trafficroutes/stored-{number}"), body)
    };
    let all = plans.into_iter().map(dataplane).chain((0..policies).map(permission));
    all.chain((0..size - dataplanes - policies).map(route)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_objects_are_stored_under_as_many_paths() {
        let stored = stored(100);
        let paths: std::collections::BTreeSet<&String> = stored.iter().map(|(path, _)| path).collect();
        assert_eq!((stored.len(), paths.len()), (100, 100));
    }
}
