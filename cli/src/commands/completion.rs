//! `completion`: a shell's completion script.

use clap::CommandFactory as _;

use crate::args::{Cli, Shell};
use crate::output;

pub(crate) fn run(shell: Shell) -> anyhow::Result<()> {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ursactl", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
