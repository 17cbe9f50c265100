//! Measures the workflow engine alone: transitions a second of one thread, by the
//! clock on the wall and by the processor time it took, which a busy machine leaves alone.
//!
//! `cargo run --release -p quarterdeck-agent --example workflow_rate`

#![expect(clippy::disallowed_methods, reason = "a benchmark measures wall time")]

use std::time::Instant;

use nix::time::{ClockId, clock_gettime};
use quarterdeck_agent::{
    domain::Moment,
    workflow::{
        command::Command,
        definition::Definition,
        engine::{Event, step},
        excerpt::Excerpts,
        message::{Incoming, read},
        outcome::ScriptEnd,
        topic::CommandTopic,
    },
};

const WORKFLOW: &str = r#"
operation = "ring"
[init]
action = "proceed"
on_success = "a"
[a]
action = "proceed"
on_success = "b"
[b]
action = "proceed"
on_success = "a"
[script]
script = "/usr/bin/handler.sh install ${.payload.url} --id ${.topic.cmd_id}"
on_success = "again"
[again]
script = "/usr/bin/handler.sh verify ${.payload.url}"
on_success = "script"
"#;
const PAYLOAD: &[u8] = br#"{"status":"init","url":"https://example.com/fw.bin","size":1048576,
    "keep":{"a":[1,2,{"z":null}]},"name":"firmware","version":"1.2.3"}"#;
const ROUNDS: u32 = 2_000_000;

fn main() -> anyhow::Result<()> {
    let definition = Definition::parse("ring.toml", WORKFLOW)?;
    let topic = CommandTopic::parse("te/device/main///cmd/ring/bench-1")?;
    let Incoming::State(init) = read(PAYLOAD)? else { anyhow::bail!("a state was expected") };
    let now = Moment::from_millis(0);
    let start = |status: &str| -> anyhow::Result<Command> {
        let mut command = Command::new(topic.clone(), init.payload.clone());
        command.status = status.into();
        Ok(step(&definition, &command, Event::Start, now)?.next)
    };
    let ended = |stdout: &[u8]| Event::ScriptEnded {
        end: ScriptEnd::Exited(0),
        excerpts: Excerpts::of(stdout),
    };
    let merging = ended(b":::begin-tedge:::\n{\"slot\":\"b\",\"size\":2}\n:::end-tedge:::\n");
    report("proceed", &definition, start("a")?, &Event::Continue)?;
    report("script, two expressions", &definition, start("script")?, &ended(b""))?;
    report("script, and its output merged", &definition, start("script")?, &merging)?;
    Ok(())
}

fn report(
    what: &str,
    definition: &Definition,
    mut command: Command,
    event: &Event,
) -> anyhow::Result<()> {
    let (begun, begun_cpu) = (Instant::now(), cpu_s()?);
    for round in 0..ROUNDS {
        let now = Moment::from_millis(i64::from(round));
        command = step(definition, &command, event.clone(), now)?.next;
    }
    let rounds = f64::from(ROUNDS);
    let (wall, cpu) = (rounds / begun.elapsed().as_secs_f64(), rounds / (cpu_s()? - begun_cpu));
    println!("{what:<32} {wall:>10.0}/s on the wall   {cpu:>10.0}/s of processor time");
    Ok(())
}

fn cpu_s() -> anyhow::Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?;
    Ok(time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
}
