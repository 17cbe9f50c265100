//! `quarterdeck-agent workflows …`: to look at workflows and to check them,
//! without a server, and beside a running agent or none.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use quarterdeck_protocol::text;
use serde_json::{Value, json};

use super::Output;
use crate::{
    config::Config,
    io::workflow_folder,
    workflow::{
        card,
        catalogue::{self, BUILTIN, Catalogue, Entry, Origin, Whose, Workflow},
        definition::InvalidDefinition,
        graph,
    },
};

#[derive(Debug, Args)]
pub(super) struct Look {
    /// Look at a child's operations: its target in [[children]], such as device/child1//
    #[arg(long, global = true, value_name = "TARGET")]
    child: Option<String>,
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Read workflow files, and cards (.json), and say what is wrong in them
    ///
    /// Exits with 0 when all are valid, else with 1.
    Check {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Print a workflow's text, as a start for a version of your own
    Show {
        /// The operation's name
        name: String,
        /// The agent's own, also where a file stands in its place
        #[arg(long)]
        builtin: bool,
    },
    /// List this device's operations, and the files that count for nothing
    List {
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Draw a workflow's states, and what leads from one to the next
    Graph {
        /// The operation's name, or a workflow file
        name: String,
    },
}

/// Does it; the exit code says whether what was asked for is so.
pub(super) fn run(config: &Config, look: &Look) -> anyhow::Result<ExitCode> {
    let (whose, folder) = meant(config, look.child.as_deref())?;
    let read = || read(whose, folder);
    Ok(match &look.task {
        Task::Check { files, output } => check(whose, files, *output),
        Task::Show { name, builtin } => {
            let text = if *builtin { own_text(name) } else { text_of(&read()?, name) };
            // To a file it goes as it is, to be edited and used.
            let is_seen = io::stdout().is_terminal();
            give(text.map(|text| if is_seen { text::block(&text).into_owned() } else { text }))
        }
        Task::List { output } => {
            list(&read()?, *output);
            ExitCode::SUCCESS
        }
        Task::Graph { name } if Path::new(name).extension().is_some_and(|e| e == "toml") => {
            give(graph_of_file(whose, Path::new(name)))
        }
        Task::Graph { name } => give(graph_of(&read()?, name)),
    })
}

/// Finds whose operations are meant, and the folder of their files.
fn meant<'a>(config: &'a Config, child: Option<&str>) -> anyhow::Result<(Whose, &'a Path)> {
    let Some(target) = child else { return Ok((Whose::Device, &config.workflows)) };
    let children = &config.scope.children;
    let found = children.iter().find(|child| child.target == target);
    let child = found.ok_or_else(|| {
        let names: Vec<&str> = children.iter().map(|child| child.target.as_str()).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let told = [format!(
            "there is no child {target:?}; in [[children]] of --config there are: {names}"
        )];
        // Perhaps it is one of those that are left out.
        let lines = told.iter().chain(&config.refused_children).map(String::as_str);
        anyhow::anyhow!(lines.collect::<Vec<_>>().join("\n"))
    })?;
    Ok((Whose::Child, &child.workflows))
}

fn read(whose: Whose, folder: &Path) -> anyhow::Result<Catalogue> {
    if whose == Whose::Child && !folder.exists() {
        complain(&format!(
            "{} is not there: make it, with this child's operations",
            folder.display()
        ));
    }
    let files = workflow_folder::read_or_none(folder).map_err(|error| {
        anyhow::anyhow!("cannot read the workflows in {}: {error}", folder.display())
    })?;
    Ok(Catalogue::of(whose, files))
}

/// Whoever reads may have gone: `list | head -1`.
fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

fn complain(problem: &str) {
    eprintln!("quarterdeck-agent: {}", text::block(problem));
}

fn give(text: Result<String, String>) -> ExitCode {
    match text {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(problem) => {
            complain(&problem);
            ExitCode::FAILURE
        }
    }
}

// --- check ------------------------------------------------------------------

/// What became of one file that was checked.
struct Checked {
    operation: Option<String>,
    /// Each with its place; empty when the file is valid.
    problems: Vec<String>,
    /// Odd, and harmless.
    notes: Vec<String>,
    valid_as: String,
}

fn check(whose: Whose, files: &[PathBuf], output: Output) -> ExitCode {
    let mut rows = Vec::new();
    let mut is_valid = true;
    for path in files {
        let checked = check_file(whose, path);
        is_valid &= checked.problems.is_empty();
        match output {
            Output::Json => rows.push(json!({
                "file": path.to_string_lossy(),
                "valid": checked.problems.is_empty(),
                "operation": checked.operation,
                "problems": checked.problems,
                "notes": checked.notes,
            })),
            Output::Text => tell(path, &checked),
        }
    }
    if output == Output::Json {
        print(&format!("{}\n", Value::Array(rows)));
    }
    if is_valid { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(path: &Path, checked: &Checked) {
    for problem in &checked.problems {
        eprintln!("{}", text::line(problem));
    }
    let mut out = String::new();
    if checked.problems.is_empty() {
        let name = path.to_string_lossy();
        let _ = writeln!(out, "{}: {}", text::line(&name), text::line(&checked.valid_as));
    }
    for note in &checked.notes {
        let _ = writeln!(out, "{}", text::line(note));
    }
    print(&out);
}

fn check_file(whose: Whose, path: &Path) -> Checked {
    let file = path.to_string_lossy();
    let is_card = path.extension().is_some_and(|extension| extension == "json");
    let wrong = |operation, problems| Checked {
        operation,
        problems,
        notes: Vec::new(),
        valid_as: String::new(),
    };
    let bytes = match workflow_folder::read_file(path) {
        Ok(bytes) => bytes,
        Err(error) => return wrong(None, vec![format!("{file}: cannot be read: {error}")]),
    };
    if is_card {
        let operation = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        return match card::parse(&operation, &file, &bytes) {
            Ok(card) => Checked {
                problems: Vec::new(),
                notes: Vec::new(),
                valid_as: format!("valid, the card of {operation}: {}", card.title),
                operation: Some(operation),
            },
            Err(invalid) => wrong(Some(operation), vec![invalid.to_string()]),
        };
    }
    match catalogue::read(whose, &file, &bytes).1 {
        Workflow::Valid { definition, .. } => Checked {
            operation: Some(definition.operation.to_string()),
            problems: Vec::new(),
            notes: definition.notes.iter().map(|note| format!("{file}:{note} (a note)")).collect(),
            valid_as: format!(
                "valid, the operation {} with {} states",
                definition.operation,
                definition.states().len()
            ),
        },
        Workflow::Invalid(InvalidDefinition { operation, problems, .. }) => {
            wrong(operation, problems.iter().map(|problem| format!("{file}:{problem}")).collect())
        }
    }
}

// --- show and graph ---------------------------------------------------------

fn entry<'a>(catalogue: &'a Catalogue, name: &str) -> Result<&'a Entry, String> {
    catalogue.get(name).ok_or_else(|| {
        let names: Vec<&str> = catalogue.entries().map(|(name, _)| &**name).collect();
        format!("there is no operation {name:?}; there are: {}", names.join(", "))
    })
}

fn own_text(name: &str) -> Result<String, String> {
    let own = BUILTIN.iter().find(|embedded| embedded.operation == name);
    own.map(|embedded| embedded.text.to_owned())
        .ok_or_else(|| format!("the agent has no operation {name:?} of its own"))
}

fn text_of(catalogue: &Catalogue, name: &str) -> Result<String, String> {
    match &entry(catalogue, name)?.workflow {
        Workflow::Valid { text, .. } => Ok(text.to_string()),
        Workflow::Invalid(invalid) => Err(format!("the file of {name} is invalid\n{invalid}")),
    }
}

fn graph_of(catalogue: &Catalogue, name: &str) -> Result<String, String> {
    match &entry(catalogue, name)?.workflow {
        Workflow::Valid { definition, .. } => Ok(graph::draw(definition)),
        Workflow::Invalid(invalid) => Err(format!("the file of {name} is invalid\n{invalid}")),
    }
}

fn graph_of_file(whose: Whose, path: &Path) -> Result<String, String> {
    let file = path.to_string_lossy();
    let bytes = workflow_folder::read_file(path)
        .map_err(|error| format!("{file}: cannot be read: {error}"))?;
    match catalogue::read(whose, &file, &bytes).1 {
        Workflow::Valid { definition, .. } => Ok(graph::draw(&definition)),
        Workflow::Invalid(invalid) => Err(invalid.to_string()),
    }
}

// --- list -------------------------------------------------------------------

fn list(catalogue: &Catalogue, output: Output) {
    let rows = catalogue.entries().map(|(name, entry)| (name.as_ref(), entry));
    match output {
        Output::Json => {
            let rows: Vec<Value> = rows.map(|(name, entry)| row(name, entry)).collect();
            print(&format!("{}\n", Value::Array(rows)));
        }
        Output::Text => {
            let rows: Vec<_> = rows.collect();
            let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
            let mut out = String::new();
            for (name, entry) in rows {
                let mut origin = entry.origin.to_string();
                if entry.overrides_builtin {
                    origin.push_str(", in place of the built-in one");
                }
                if !entry.workflow.is_valid() {
                    origin.push_str(", INVALID: its commands fail");
                }
                let title = text::line(&entry.card.title).into_owned();
                let _ = writeln!(
                    out,
                    "{:width$}  {title}  ({})",
                    text::line(name),
                    text::line(&origin)
                );
            }
            print(&out);
        }
    }
    for (_, entry) in catalogue.entries() {
        if let Workflow::Invalid(invalid) = &entry.workflow {
            complain(&invalid.to_string());
        }
    }
    for rejected in &catalogue.rejected {
        complain(&rejected.to_string());
    }
}

fn row(name: &str, entry: &Entry) -> Value {
    let (states, version, problems) = match &entry.workflow {
        Workflow::Valid { definition, .. } => {
            let states: Vec<_> = definition.states().iter().map(|state| &*state.name).collect();
            (states, Some(&definition.version), Vec::new())
        }
        Workflow::Invalid(invalid) => {
            let problems: Vec<String> = invalid.problems.iter().map(ToString::to_string).collect();
            (Vec::new(), None, problems)
        }
    };
    let file = match &entry.origin {
        Origin::Builtin => None,
        Origin::File(path) => Some(path.to_string_lossy().into_owned()),
    };
    json!({
        "name": name,
        "file": file,
        "overrides_builtin": entry.overrides_builtin,
        "valid": entry.workflow.is_valid(),
        "problems": problems,
        "version": version,
        "states": states,
        "title": entry.card.title,
        "description": entry.card.description,
        "icon": entry.card.icon,
        "estimated_duration_s": entry.card.estimated_duration_s,
        "dangerous": entry.card.dangerous,
        "reboots": entry.card.reboots,
        "form_schema": entry.card.form_schema,
    })
}
