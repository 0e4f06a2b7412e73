//! `ursa-fuzz FOLDER`: writes the seeds of each target below the folder, for libFuzzer to begin with.

use std::fs;
use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or(std::io::ErrorKind::InvalidInput)?);
    for (target, _) in ursa_fuzz::TARGETS {
        fs::create_dir_all(folder.join(target))?;
        for (number, seed) in ursa_fuzz::seeds(target).into_iter().enumerate() {
            fs::write(folder.join(target).join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}
