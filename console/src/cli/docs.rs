//! `quarterdeck completions` and `man`: made from the same table of options as `--help`.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;

use super::error::CliError;

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell to make them for
    shell: Shell,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write a page for each subcommand into this folder, instead of the first one to stdout
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints completions for a shell.
pub fn completions(mut command: Command, args: &CompletionsArgs) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "quarterdeck", &mut script);
    print(&script)
}

/// Prints the man page, or writes all of them.
pub fn man(command: Command, args: &ManArgs) -> Result<(), CliError> {
    if let Some(dir) = &args.dir {
        let wrong = |e| CliError::Failed(format!("{}: {e}", dir.display()));
        std::fs::create_dir_all(dir).map_err(wrong)?;
        return clap_mangen::generate_to(command, dir).map_err(wrong);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    print(&page)
}

fn print(bytes: &[u8]) -> Result<(), CliError> {
    use std::io::Write as _;
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()?;
    Ok(())
}
