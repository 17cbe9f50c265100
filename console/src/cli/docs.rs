//! `quarterdeck completions` and `man`: made from the same table of options as `--help`.

use std::{
    io,
    path::{Path, PathBuf},
};

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
        let mut command = command.disable_help_subcommand(true);
        command.build();
        return write_pages(command, dir).map_err(wrong);
    }
    print(&page_of(&clap_mangen::Man::new(command))?)
}

fn write_pages(command: Command, dir: &Path) -> io::Result<()> {
    for subcommand in command.get_subcommands().filter(|one| !one.is_hide_set()).cloned() {
        write_pages(subcommand, dir)?;
    }
    let man = clap_mangen::Man::new(command);
    std::fs::write(dir.join(man.get_filename()), page_of(&man)?)
}

/// Renders a page whose lines are not stretched to both margins: one that is a single long word
/// cannot be, and troff would complain.
fn page_of(man: &clap_mangen::Man) -> io::Result<Vec<u8>> {
    let (mut title, mut whole) = (Vec::new(), Vec::new());
    man.render_title(&mut title)?;
    man.render(&mut whole)?;
    let rest = whole.strip_prefix(title.as_slice()).unwrap_or(&whole);
    let title = if rest.len() < whole.len() { title.as_slice() } else { &[] };
    Ok([title, b".ad l\n", rest].concat())
}

fn print(bytes: &[u8]) -> Result<(), CliError> {
    use std::io::Write as _;
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()?;
    Ok(())
}
