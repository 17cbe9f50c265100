//! `quarterdeck enroll-token` and `service-token`.

use clap::{Args, Subcommand};
use quarterdeck_protocol::api::{
    CreateEnrollmentToken, CreateServiceToken, EnrollmentToken, Role, ServiceToken,
};

use super::{
    context::Context,
    error::CliError,
    output::{Printer, note},
    units::{Pair, Span},
};
use crate::net::api::Item;

#[derive(Debug, Args)]
pub struct EnrollTokenArgs {
    #[command(subcommand)]
    command: Option<EnrollTokenCommand>,
}

#[derive(Debug, Subcommand)]
enum EnrollTokenCommand {
    /// List enrolment tokens (what `enroll-token` alone does)
    Ls,
    /// Make one; the token itself is printed once, alone, on stdout
    Create {
        /// How many devices may enrol with it
        #[arg(long, value_name = "N", default_value_t = 1)]
        uses: u32,
        /// How long it is good: 30m, 1h, 7d
        #[arg(long, value_name = "TIME", default_value = "1h")]
        expires: Span,
        /// A tag that each such device gets
        #[arg(long, value_name = "KEY=VALUE")]
        tag: Vec<Pair>,
    },
    /// Make one useless
    Revoke { id: String },
}

pub async fn enroll_token(context: &mut Context, args: EnrollTokenArgs) -> Result<(), CliError> {
    let Context { client, project, printer, .. } = context;
    let api = client.project(project);
    match args.command.unwrap_or(EnrollTokenCommand::Ls) {
        EnrollTokenCommand::Ls => {
            printer.pages::<EnrollmentToken>(api.enrollment_tokens(None)).await?;
            Ok(())
        }
        EnrollTokenCommand::Create { uses, expires, tag } => {
            let tags = tag.into_iter().map(|Pair { key, value }| (key, value)).collect();
            let create = CreateEnrollmentToken { uses, expires_in_s: expires.seconds, tags };
            let token = api.create_enrollment_token(&create).await?;
            note(&format!(
                "token {} for {} device(s), until {}",
                token.id, token.uses, token.expires_at
            ));
            let secret = token.token.clone();
            created(printer, token, secret)
        }
        EnrollTokenCommand::Revoke { id } => {
            api.revoke_enrollment_token(&id).await?;
            printer.done::<EnrollmentToken>(&[], &format!("revoked {id}"))
        }
    }
}

#[derive(Debug, Args)]
pub struct ServiceTokenArgs {
    #[command(subcommand)]
    command: Option<ServiceTokenCommand>,
}

#[derive(Debug, Subcommand)]
enum ServiceTokenCommand {
    /// List service tokens (what `service-token` alone does)
    Ls,
    /// Make one for the project; the token itself is printed once, alone, on stdout
    Create {
        name: String,
        /// What it may do: viewer, operator or admin
        #[arg(long, value_name = "ROLE", default_value = "viewer")]
        role: Role,
        /// How long it is good, such as 90d [default: until revoked]
        #[arg(long, value_name = "TIME")]
        expires: Option<Span>,
    },
    /// Make one useless
    Revoke { id: String },
}

pub async fn service_token(context: &mut Context, args: ServiceTokenArgs) -> Result<(), CliError> {
    let Context { client, project, printer, .. } = context;
    match args.command.unwrap_or(ServiceTokenCommand::Ls) {
        ServiceTokenCommand::Ls => {
            printer.pages::<ServiceToken>(client.service_tokens(None)).await?;
            Ok(())
        }
        ServiceTokenCommand::Create { name, role, expires } => {
            let create = CreateServiceToken {
                name,
                project: project.clone(),
                role,
                expires_in_s: expires.map(|span| span.seconds),
            };
            let token = client.create_service_token(&create).await?;
            let until = token
                .expires_at
                .map_or_else(|| "until revoked".to_owned(), |at| format!("until {at}"));
            note(&format!("token {} ({}, {}), {until}", token.id, token.name, token.role.as_str()));
            let secret = token.token.clone();
            created(printer, token, secret)
        }
        ServiceTokenCommand::Revoke { id } => {
            client.revoke_service_token(&id).await?;
            printer.done::<ServiceToken>(&[], &format!("revoked {id}"))
        }
    }
}

/// Prints the token alone, so that a script can take it as it is.
fn created<T>(printer: &mut Printer, item: Item<T>, token: Option<String>) -> Result<(), CliError> {
    let token = token.ok_or_else(|| CliError::Failed("the server gave no token".to_owned()))?;
    printer.done(&[item], &token)
}
