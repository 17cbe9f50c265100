//! `quarterdeck proxy`: stdin and stdout joined to a port of a device, for ssh's
//! `ProxyCommand`. Bytes go as they are, each direction has its own end, and an
//! end whose hash is wrong is an error and no end.

use std::{io, os::fd::AsFd as _, time::Duration};

use clap::Args;
use quarterdeck_protocol::{
    api::TunnelKind,
    tunnel::{close::CloseCode, stream::Closed},
};
use tokio::{
    io::{AsyncWriteExt as _, stdin},
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use super::{
    context::Context,
    direct::stdout,
    error::CliError,
    session::{self, Failed},
};
use crate::net::tunnel::{
    Ended, Stream, closed_text,
    pump::{self, Stopped},
};

/// How long the end of a tunnel may take after that of its connection.
const FAREWELL: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct ProxyArgs {
    /// The host, as the device sees it [default: the device itself]
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// The port [default: 22]
    #[arg(long = "port", value_name = "PORT", conflicts_with = "port", value_parser = clap::value_parser!(u16).range(1..))]
    port_option: Option<u16>,
    /// The device
    #[arg(value_name = "DEVICE")]
    device: String,
    /// The port [default: 22]
    #[arg(value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
}

const EXAMPLES: &str = "Examples:
  ssh -o ProxyCommand='quarterdeck proxy pi-1 %p' root@pi-1
  quarterdeck ssh-config pi-1 >> ~/.ssh/config        the same, once for all";

pub async fn run(context: &Context, args: ProxyArgs) -> Result<(), CliError> {
    let mut request = session::request(&args.device, TunnelKind::Ssh)?;
    request.host = args.host;
    request.port = args.port.or(args.port_option);
    let (_, attachment) = session::open(context, &request, None).await?;
    let stream = attachment.open().map_err(|refused| CliError::Failed(refused.to_string()))?;
    let joined = tokio::select! {
        joined = join(&stream) => joined,
        // So ssh takes leave of it.
        number = ending_signal() => {
            attachment.close();
            let _ = timeout(FAREWELL, attachment.ended()).await;
            return Err(CliError::Exit(128 + number?));
        }
    };
    drop(stream);
    attachment.close();
    let ended = timeout(FAREWELL, attachment.ended()).await;
    match joined {
        Ok(()) => Ok(()),
        Err(Stopped::Local(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(Stopped::Local(error)) => Err(error.into()),
        Err(Stopped::Stream(closed)) => Err(why(&closed, ended.ok())),
    }
}

/// The stream's own reason, unless it only went with its tunnel.
fn why(closed: &Closed, ended: Option<Ended>) -> CliError {
    match (closed.code, ended) {
        (CloseCode::Unknown | CloseCode::ConnectionLost, Some(ended)) => Failed::from(ended).into(),
        _ => CliError::Failed(closed_text(closed)),
    }
}

async fn join(stream: &Stream) -> Result<(), Stopped> {
    let upwards = async {
        pump::up(&mut stdin(), stream).await?;
        stream.delivered().await.map_err(Stopped::from)
    };
    let downwards = async {
        let mut out = stdout();
        pump::down(stream, &mut out, |_| {}).await?;
        out.flush().await?;
        close_stdout()?;
        Ok(())
    };
    tokio::try_join!(upwards, downwards).map(|_| ())
}

/// Waits for a signal that ends a program, and says its number.
async fn ending_signal() -> io::Result<u8> {
    let (mut hangups, mut interrupts, mut terms) = (
        signal(SignalKind::hangup())?,
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    Ok(tokio::select! {
        _ = hangups.recv() => 1,
        _ = interrupts.recv() => 2,
        _ = terms.recv() => 15,
    })
}

/// Tells who reads our stdout that nothing more comes, while we still read.
fn close_stdout() -> io::Result<()> {
    let nothing = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    nix::unistd::dup2_stdout(nothing.as_fd())?;
    Ok(())
}
