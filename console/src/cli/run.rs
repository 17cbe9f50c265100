//! `quarterdeck run`: one operation on one or many devices.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use quarterdeck_protocol::{
    api::{Command, CreateCommands, Targets},
    ids::DeviceId,
    limits::BATCH_MAX_DEVICES,
    operations::{self, Operation},
    payload, text,
};
use serde_json::{Map, Value};

use super::{
    commands::transfer,
    context::Context,
    error::CliError,
    fields::Field,
    input,
    output::{Format, StatusLine, note},
    rows,
    units::Span,
    wait::{self, Waited},
};
use crate::net::{api::Item, clock, files::Upload};

#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// The operation, such as ping or run_script; `quarterdeck operations` lists them
    #[arg(value_name = "TYPE")]
    pub kind: String,
    /// Devices, and fields of the payload: `key=value`, `key:=JSON` or `key@FILE`
    #[arg(value_name = "DEVICE|KEY=VALUE")]
    pub words: Vec<String>,
    /// All members of this group
    #[arg(long, value_name = "GROUP")]
    pub group: Vec<String>,
    /// Devices from a file, one a line; `-` is stdin
    #[arg(long, value_name = "FILE")]
    pub devices_from: Option<PathBuf>,
    /// The payload as a JSON object
    #[arg(long, value_name = "JSON", conflicts_with = "payload_file")]
    pub payload: Option<String>,
    /// The payload from a file; `-` is stdin
    #[arg(long, value_name = "FILE")]
    pub payload_file: Option<PathBuf>,
    /// For file_push: the file to send along
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// 1 (leaves first) to 10 [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=10))]
    pub priority: Option<u8>,
    /// How long it may run: 300, 90s, 5m [default: 5m]
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<Span>,
    /// How long it waits for a device that is away [default: 1h]
    #[arg(long, value_name = "TIME")]
    pub expires: Option<Span>,
    /// Why, for the audit log and for others
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub notes: String,
    /// Yes, also when it is dangerous or for many devices
    #[arg(long, visible_alias = "yes", short = 'y')]
    pub confirm: bool,
    /// Wait for the outcome; the exit code is 0 only when all completed
    #[arg(long)]
    pub wait: bool,
    /// Wait at most so long: then the exit code is 1, and the commands go on
    #[arg(long, value_name = "TIME", requires = "wait")]
    pub wait_timeout: Option<Span>,
    /// Makes repetitions of this very call one submission [default: a fresh key]
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
}

const EXAMPLES: &str = "Examples:
  quarterdeck run ping pi-1 --wait
  quarterdeck run run_script pi-1 pi-2 script='uptime; df -h /' --wait
  quarterdeck run run_script pi-1 script@fix.sh args=--dry-run env.LANG=C --timeout 10m --wait
  quarterdeck run collect_logs pi-1 unit=nginx lines=500
  quarterdeck run file_push pi-1 path=/etc/motd mode=0644 --file motd --wait
  quarterdeck run restart_service --group kiosks service=nginx --priority 2 --notes 'CHG-20418'
  quarterdeck run reboot_host pi-1 --confirm --wait --wait-timeout 5m
  quarterdeck devices --status online --output json | jq -r '.[].id' |
    quarterdeck run ping --devices-from - --wait

Fields of the payload: key=value takes the type that the operation's form says; key:=JSON is JSON;
key@FILE is the text of a file; a key that is given again adds to a list; env.NAME=value fills an object.";

impl RunArgs {
    /// Builds the submission; `schema` is the operation's form, for the types of fields.
    pub fn request(&self, schema: Option<&Value>) -> Result<CreateCommands, CliError> {
        let mut devices = Vec::new();
        let mut fields = Vec::new();
        for word in &self.words {
            match Field::parse(word) {
                Some(field) => fields.push(field),
                None => devices.push(device(word)?),
            }
        }
        if let Some(path) = &self.devices_from {
            let text = input::text_file("--devices-from", path)?;
            for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
                devices.push(device(line)?);
            }
        }
        if devices.is_empty() && self.group.is_empty() {
            return Err(CliError::Usage("expected a device or --group".to_owned()));
        }
        let mut seen = BTreeSet::new();
        devices.retain(|device| seen.insert(device.clone()));
        let seconds = |name: &str, span: Option<Span>| {
            span.map(|span| {
                span.seconds_u32()
                    .ok_or_else(|| CliError::Usage(format!("{name}: expected less than 136 years")))
            })
            .transpose()
        };
        Ok(CreateCommands {
            targets: Targets { devices, groups: self.group.clone() },
            kind: self.kind.clone(),
            payload: self.payload(fields, schema)?,
            priority: self.priority,
            timeout_s: seconds("--timeout", self.timeout)?,
            expires_in_s: seconds("--expires", self.expires)?,
            notes: self.notes.clone(),
            confirm: self.confirm,
        })
    }

    fn payload(&self, fields: Vec<Field<'_>>, schema: Option<&Value>) -> Result<Value, CliError> {
        let (given, from) = match (&self.payload, &self.payload_file) {
            (Some(json), _) => (json.clone(), "--payload"),
            (None, Some(path)) => (input::text_file("--payload-file", path)?, "--payload-file"),
            (None, None) => ("{}".to_owned(), ""),
        };
        let mut payload: Map<String, Value> = serde_json::from_str(&given)
            .map_err(|e| CliError::Usage(format!("{from}: expected a JSON object, {e}")))?;
        for field in fields {
            field.add_to(&mut payload, schema)?;
        }
        Ok(Value::Object(payload))
    }

    /// Whether a field's type must be looked up in a form that this program does not have.
    fn needs_schema(&self) -> bool {
        !operations::is_builtin(&self.kind) && self.words.iter().any(|w| Field::parse(w).is_some())
    }
}

fn device(word: &str) -> Result<String, CliError> {
    DeviceId::new(word).map(String::from).map_err(|e| CliError::Usage(e.to_string()))
}

pub async fn run(context: &mut Context, args: RunArgs) -> Result<(), CliError> {
    let schema = if args.needs_schema() {
        let found: Vec<Item<Operation>> = context.project().operations(None).all().await?;
        found.into_iter().find(|op| op.name == args.kind).map(|op| op.value.form_schema)
    } else {
        Some(payload::form_schema(&args.kind))
    };
    let mut request = args.request(schema.as_ref())?;
    if let Some(path) = &args.file {
        request.payload["upload_id"] = Value::from(upload(context, path).await?);
    }
    let key = args.idempotency_key.clone().unwrap_or_else(clock::fresh_key);
    let (mut batches, mut submitted) = (Vec::new(), Vec::new());
    for (n, part) in parts(request)?.iter().enumerate() {
        let key = if n == 0 { key.clone() } else { format!("{key}.{}", n + 1) };
        let created = context.project().create_commands(part, &key).await?;
        for warning in &created.warnings {
            note(&format!("warning: {warning}"));
        }
        note(&format!(
            "{} command{} submitted, {} of the devices offline, batch {}",
            created.count,
            if created.count == 1 { "" } else { "s" },
            created.offline,
            created.batch_id,
        ));
        batches.push(created.batch_id);
        if !args.wait {
            // The answer's own commands, as the API sent them.
            let answer: Submitted = serde_json::from_str(created.raw.get())
                .map_err(|e| CliError::Failed(format!("the server's answer: {e}")))?;
            submitted.extend(answer.commands);
        }
    }
    if !args.wait {
        return context.printer.items(&submitted);
    }
    let Waited { commands, is_complete } =
        wait::for_batches(context, &batches, args.wait_timeout.map(Span::duration)).await?;
    match context.printer.format {
        Format::Json => context.printer.items(&commands)?,
        Format::Table => {
            let shown: String = commands.iter().map(|command| outcome(command)).collect();
            context.printer.text(&shown)?;
        }
    }
    if is_complete { Ok(()) } else { Err(CliError::Said) }
}

/// The submissions that a request becomes: the server takes so many devices in one.
fn parts(request: CreateCommands) -> Result<Vec<CreateCommands>, CliError> {
    let devices = &request.targets.devices;
    if devices.len() <= BATCH_MAX_DEVICES {
        return Ok(vec![request]);
    }
    if !request.targets.groups.is_empty() {
        // A device of both would be sent it twice.
        return Err(CliError::Usage(format!(
            "expected at most {BATCH_MAX_DEVICES} devices beside --group, not {}; send to the groups apart",
            devices.len()
        )));
    }
    let part = |devices: &[String]| {
        let targets = Targets { devices: devices.to_vec(), groups: Vec::new() };
        CreateCommands { targets, ..request.clone() }
    };
    Ok(devices.chunks(BATCH_MAX_DEVICES).map(part).collect())
}

/// Sends a file along, and gives the id under which a device can take it.
async fn upload(context: &Context, path: &Path) -> Result<String, CliError> {
    let (id, upload) = (clock::fresh_id(), Upload::of(path).await?);
    let mut line = StatusLine::new();
    let project = context.project();
    let mut sending = std::pin::pin!(project.upload(id, &upload));
    let sent = loop {
        tokio::select! {
            sent = &mut sending => break sent,
            () = tokio::time::sleep(Duration::from_millis(200)) => {
                line.set(|| transfer(upload.sent_bytes(), Some(upload.size_bytes)));
            }
        }
    };
    line.clear();
    sent?;
    Ok(id.to_string())
}

#[derive(serde::Deserialize)]
struct Submitted {
    commands: Vec<Item<Command>>,
}

/// A device's outcome with all it said, fit for a terminal.
fn outcome(command: &Command) -> String {
    let mut headline = format!("== {}: {}", command.device_id, rows::status(command));
    if let Some(code) = command.exit_code {
        let _ = write!(headline, ", exit {code}");
    }
    if let Some(took) = rows::took(command) {
        let _ = write!(headline, ", {took}");
    }
    if let Some(error) = rows::error(command) {
        let _ = write!(headline, ", {error}");
    }
    let mut shown = format!("{}\n", text::line(&headline));
    let (stdout, stderr) = (command.stdout.as_deref(), command.stderr.as_deref());
    let has_both = stdout.is_some_and(|s| !s.is_empty()) && stderr.is_some_and(|s| !s.is_empty());
    for (name, stream) in [("stdout", stdout), ("stderr", stderr)] {
        let Some(stream) = stream.filter(|stream| !stream.is_empty()) else { continue };
        if has_both || name == "stderr" {
            let _ = writeln!(shown, "-- {name}");
        }
        let block = text::block(stream);
        shown.push_str(&block);
        if !block.ends_with('\n') {
            shown.push('\n');
        }
    }
    let result = command.result.as_ref().filter(|result| {
        !result.is_null() && result.as_object().is_none_or(|fields| !fields.is_empty())
    });
    if let Some(result) = result {
        let pretty = serde_json::to_string_pretty(result).unwrap_or_default();
        shown.push_str(&text::block(&pretty));
        shown.push('\n');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn payload_of(kind: &str, words: &[&str]) -> Result<Value, String> {
        let args = RunArgs {
            kind: kind.to_owned(),
            words: ["pi-1"].iter().chain(words).map(|&w| w.to_owned()).collect(),
            group: Vec::new(),
            devices_from: None,
            payload: None,
            payload_file: None,
            file: None,
            priority: None,
            timeout: None,
            expires: None,
            notes: String::new(),
            confirm: false,
            wait: false,
            wait_timeout: None,
            idempotency_key: None,
        };
        let request = args.request(Some(&payload::form_schema(kind))).map_err(|e| e.to_string())?;
        assert_eq!(request.targets.devices, ["pi-1"]);
        Ok(request.payload)
    }

    #[test]
    fn fields_take_the_types_of_the_form() {
        for (kind, words, payload) in [
            (
                "collect_logs",
                &["unit=nginx", "lines=500"][..],
                json!({"unit": "nginx", "lines": 500}),
            ),
            ("restart_service", &["service=5"], json!({"service": "5"})),
            (
                "run_script",
                &["script=a=b@c", "args=-x", "args=--y", "env.LANG=C", "user=me@x"],
                json!({"script": "a=b@c", "args": ["-x", "--y"], "env": {"LANG": "C"}, "user": "me@x"}),
            ),
            ("run_script", &["script=id", "args:=[\"a\"]"], json!({"script": "id", "args": ["a"]})),
            ("run_script", &["script=id", "args=[\"a\"]"], json!({"script": "id", "args": ["a"]})),
            ("collect_logs", &["lines=many"], json!({"lines": "many"})),
        ] {
            assert_eq!(payload_of(kind, words), Ok(payload), "{kind} {words:?}");
        }
    }

    #[test]
    fn more_devices_than_a_submission_takes_go_in_several() {
        let request = |count: usize, groups: &[&str]| CreateCommands {
            targets: Targets {
                devices: (0..count).map(|n| format!("d-{n}")).collect(),
                groups: groups.iter().map(|&group| group.to_owned()).collect(),
            },
            kind: "ping".to_owned(),
            payload: json!({}),
            priority: None,
            timeout_s: None,
            expires_in_s: None,
            notes: "why".to_owned(),
            confirm: true,
        };
        let sizes = |count| -> Vec<usize> {
            let parts = parts(request(count, &[])).expect("valid");
            assert!(parts.iter().all(|part| part.confirm && part.notes == "why"));
            let all: BTreeSet<_> = parts.iter().flat_map(|part| &part.targets.devices).collect();
            assert_eq!(all.len(), count);
            parts.iter().map(|part| part.targets.devices.len()).collect()
        };
        assert_eq!(sizes(1), [1]);
        assert_eq!(sizes(10_000), [10_000]);
        assert_eq!(sizes(20_001), [10_000, 10_000, 1]);
        assert_eq!(parts(request(10_000, &["kiosks"])).expect("valid").len(), 1);
        let refused = parts(request(10_001, &["kiosks"])).expect_err("twice").to_string();
        assert!(refused.contains("10000") && refused.contains("--group"), "{refused}");
    }

    #[test]
    fn a_field_may_come_from_a_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "echo hi\n").expect("written");
        let word = format!("script@{}", file.path().display());
        assert_eq!(payload_of("run_script", &[&word]), Ok(json!({"script": "echo hi\n"})));
        assert!(payload_of("run_script", &["script@/nowhere/at/all"]).is_err());
        assert!(payload_of("run_script", &["x:={"]).is_err());
        assert!(payload_of("run_script", &["=x"]).is_err());
    }

    #[test]
    fn what_a_device_printed_cannot_act_on_the_terminal() {
        let command = json!({
            "id": "01890000-0000-7000-8000-000000000001", "batch_id": "01890000-0000-7000-8000-000000000002",
            "device_id": "pi-1", "type": "run_script", "payload": {}, "priority": 5, "timeout_s": 300,
            "notes": "", "status": "failed", "created_by": "ops", "created_at": "2026-11-21T06:00:00Z",
            "expires_at": "2026-11-21T07:00:00Z", "attempt": 1, "exit_code": 3,
            "started_at": "2026-11-21T06:00:00Z", "finished_at": "2026-11-21T06:00:01.250Z",
            "stdout": "one\r\ntwo\u{1b}]0;x\u{7}", "stderr": "bad\u{202e}\n", "error_code": "script_failed",
            "error_message": "exit 3\u{1b}[2J"
        });
        let command: Command = serde_json::from_value(command).expect("a command");
        assert_eq!(
            outcome(&command),
            "== pi-1: failed, exit 3, 1.2s, script_failed: exit 3^[[2J\n\
             -- stdout\none\ntwo^[]0;x^G\n-- stderr\nbad<U+202E>\n"
        );
    }
}
