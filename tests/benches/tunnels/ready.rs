//! How long it takes from the command line to the first prompt.

use anyhow::Result;
use quarterdeck_tests::{
    binaries, clock,
    pty::{Terminal, TerminalBuilder},
    report::{Report, Wanted},
};

use super::{Bench, DEVICE, Pairs, peer::HOST};

const PROMPT: &str = "first-prompt";

pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let script = format!("printf {PROMPT}; exec cat");
    let mut pairs = Pairs::default();
    for _ in 0..bench.rounds() * 2 {
        let console = TerminalBuilder::new(&binaries::find()?.console)
            .args(["exec", "--tty", DEVICE, "--", "sh", "-c", &script])
            .env("QUARTERDECK_SERVER", bench.fleet.api().base())
            .env("QUARTERDECK_TOKEN", bench.fleet.api().token())
            .env("HOME", bench.fleet.folder().to_string_lossy());
        let ours = prompt(console).await?;
        let ssh = TerminalBuilder::new("ssh").args(bench.peer.words()).args(["-tt", HOST, &script]);
        pairs.push(ours, prompt(ssh).await?);
    }
    pairs.report(report, "first prompt", "ms", Wanted::AtMost(0.5));
    Ok(())
}

/// Milliseconds until the prompt stands on the screen; then the session is ended.
async fn prompt(program: TerminalBuilder) -> Result<f64> {
    let begun = clock::now();
    let mut terminal: Terminal = program.start()?;
    let at = terminal.wait_for_frame("the prompt", |s| s.contents().contains(PROMPT)).await?;
    let took = at.duration_since(begun);
    // An end of input, at the beginning of a line.
    terminal.send(b"\n\x04").await?;
    terminal.wait_for_end().await?;
    Ok(took.as_secs_f64() * 1e3)
}
