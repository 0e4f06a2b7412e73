//! `ursactl`: the command line.

fn main() {}
