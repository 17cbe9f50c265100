//! How a subcommand ends when it does not succeed.

use std::{io, process::ExitCode};

use quarterdeck_protocol::api::Problem;

use crate::net::{ApiError, profile::ProfileError, server::InvalidServer};

/// Why a subcommand did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The words on the command line, a file or the environment make no sense.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The thing asked for failed.
    #[error("{0}")]
    Failed(String),
    /// What ran on a device ended with this code, or why it did not has been said.
    #[error("")]
    Exit(u8),
    /// It failed, and all there is to say has been said.
    #[error("")]
    Said,
    /// The operator pressed Ctrl-C.
    #[error("")]
    Interrupted,
    /// Nobody reads what we print.
    #[error("")]
    Unread,
    #[error("cannot write: {0}")]
    Io(io::Error),
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Unread } else { Self::Io(error) }
    }
}

impl From<InvalidServer> for CliError {
    fn from(error: InvalidServer) -> Self {
        Self::Usage(error.to_string())
    }
}

/// Whether a value is wrong, and not the device that it names missing or retired.
fn is_wrong_usage(problem: &Problem) -> bool {
    let is_of_a_device =
        |field: &str| field == "device_id" || field.starts_with("targets.devices[");
    matches!(problem.status, 400 | 422) && !problem.field.as_deref().is_some_and(is_of_a_device)
}

impl CliError {
    /// The exit code of chapter 1: 1 when the thing asked for failed, 2 on wrong usage, whether we see
    /// that a value is wrong or the server does; what ran on a device passes its own on.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Unread | Self::Api(ApiError::Write { broken_pipe: true, .. }) => {
                ExitCode::SUCCESS
            }
            Self::Usage(_)
            | Self::Api(ApiError::Server(_) | ApiError::BadId(_))
            | Self::Profile(ProfileError::BadName(_)) => ExitCode::from(2),
            Self::Api(ApiError::Refused(problem)) if is_wrong_usage(problem) => ExitCode::from(2),
            Self::Interrupted => ExitCode::from(130),
            Self::Exit(code) => ExitCode::from(*code),
            Self::Api(_) | Self::Profile(_) | Self::Failed(_) | Self::Said | Self::Io(_) => {
                ExitCode::FAILURE
            }
        }
    }

    /// What stderr says of it; `None` when there is nothing to say.
    pub fn message(&self) -> Option<String> {
        let is_quiet = match self {
            Self::Said | Self::Exit(_) | Self::Interrupted | Self::Unread => true,
            Self::Api(ApiError::Write { broken_pipe, .. }) => *broken_pipe,
            _ => false,
        };
        (!is_quiet).then(|| {
            let mut message = self.to_string();
            if let Self::Api(error) = self
                && is_confirmation(error)
            {
                message.push_str("; add --confirm when you are sure");
            }
            message
        })
    }
}

/// Whether the server wants `confirm`.
fn is_confirmation(error: &ApiError) -> bool {
    matches!(error, ApiError::Refused(problem)
        if problem.field.as_deref() == Some("confirm") || problem.code.contains("confirm"))
}
