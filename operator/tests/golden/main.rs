//! Goldens: a resource as a user writes it and what is seen of it; out come all objects and the status.
//!
//! `UPDATE_GOLDEN=1 cargo test -p ursa-operator --test golden` rewrites the outputs.

mod common;
mod control_plane;
mod zone_ingress;

use std::path::Path;

use common::Error;

datatest_stable::harness! {
    { test = control_plane::golden, root = "testdata/control_plane", pattern = r"\.in\.yaml$" },
    { test = zone_ingress::golden, root = "testdata/zone_ingress", pattern = r"\.in\.yaml$" },
    { test = every_output_has_an_input, root = "testdata", pattern = r"\.out\.yaml$" },
}

fn every_output_has_an_input(path: &Path) -> Result<(), Error> {
    let input = path.to_string_lossy().replace(".out.yaml", ".in.yaml");
    Path::new(&input).exists().then_some(()).ok_or_else(|| format!("{input} is missing").into())
}
