//! `verify-audit`, `export-audit`.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use serde_json::json;

use super::admin::open;
use crate::{config::Config, store::audit};

#[derive(Debug, clap::Args)]
pub(super) struct VerifyAudit {
    /// Only this project's chain
    #[arg(long, value_name = "ID")]
    project: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct ExportAudit {
    /// Only this project's chain
    #[arg(long, value_name = "ID")]
    project: Option<String>,
    /// Write to this new file instead of stdout
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Checks the chains; says of each that it holds, or which entry is the first bad one.
pub(super) async fn verify(config: Config, options: VerifyAudit) -> anyhow::Result<ExitCode> {
    let opened = open(&config).await?;
    let mut tx = opened.store.read().await?;
    let mut is_good = true;
    for project in chosen(&mut tx, options.project).await? {
        match opened.auditor.verify(&mut tx, &project).await {
            Ok(audit::Verified { project, entries, head }) => {
                println!("project {project}: {entries} entries hold, head {head}");
            }
            Err(audit::VerifyError::Store(error)) => return Err(error.into()),
            Err(broken @ audit::VerifyError::Broken { .. }) => {
                is_good = false;
                println!("{broken}");
            }
        }
    }
    drop(tx);
    opened.store.close().await;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes the entries, oldest first, one JSON object a line.
pub(super) async fn export(config: Config, options: ExportAudit) -> anyhow::Result<()> {
    let opened = open(&config).await?;
    let mut tx = opened.store.read().await?;
    let projects = chosen(&mut tx, options.project).await?;
    let mut out: Box<dyn Write> = match &options.output {
        Some(path) => Box::new(BufWriter::new(
            File::create_new(path).with_context(|| format!("--output {}", path.display()))?,
        )),
        None => Box::new(BufWriter::new(io::stdout())),
    };
    for project in projects {
        let mut after = 0;
        loop {
            let page = audit::export_page(&mut tx, &project, after).await?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            for entry in &page {
                let mut line = serde_json::to_value(entry)?;
                line["project"] = json!(project);
                writeln!(out, "{line}")?;
            }
        }
    }
    out.flush()?;
    drop(tx);
    opened.store.close().await;
    Ok(())
}

async fn chosen(tx: &mut crate::store::Tx, project: Option<String>) -> anyhow::Result<Vec<String>> {
    let all = audit::chains(tx).await?;
    match project {
        None => Ok(all),
        Some(project) if all.contains(&project) => Ok(vec![project]),
        Some(project) => bail!("there is no project {project}"),
    }
}
