//! `viaduct explain`: the decision on one message, laid open.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{Tunables, offline};
use crate::config::{Config, text};
use crate::control::explain::{self, Decider, Explanation};
use crate::proxy::{Datagram, Proxy};

/// Show what would be done with a message, and why.
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a comment here would replace the help of the subcommand"
    )]
    pub tunables: Tunables,
    /// A SIP message as it would arrive in one datagram; `-` for stdin
    #[arg(long, value_name = "FILE", conflicts_with = "call_id")]
    pub message: Option<PathBuf>,
    /// Explain a plain INVITE with this Call-ID instead of a message
    #[arg(long, value_name = "ID")]
    pub call_id: Option<String>,
    /// Where the message comes from, with port 5060 unless given [default: 192.0.2.1, or 2001:db8::1 for a listener of IPv6]
    #[arg(long, value_name = "ADDR", value_parser = text::address)]
    pub from: Option<SocketAddr>,
    /// Configuration that was in force before: shows the second chance of CANCEL and ACK
    #[arg(long, value_name = "FILE")]
    pub before: Option<PathBuf>,
    /// The listener that it comes in on [default: the first of the family of --from]
    #[arg(long, value_name = "NAME")]
    pub listener: Option<String>,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

pub(super) fn explain(args: &ExplainArgs) -> io::Result<ExitCode> {
    let Some(config) = args.tunables.load()? else {
        return Ok(ExitCode::FAILURE);
    };
    let (secret, known) = offline::secret(&config)?;
    let source = args
        .from
        .unwrap_or_else(|| explain::example_source(&config));
    let listener = match &args.listener {
        Some(name) => offline::listener(&config, name)?,
        None => explain::listener_for(&config, source).map_err(io::Error::other)?,
    };
    let message = message(args, &config, source)?;
    let proxy = match &args.before {
        None => Proxy::new(&config, secret),
        Some(path) => {
            let Some(before) = args.tunables.load_from("--before", path)? else {
                return Ok(ExitCode::FAILURE);
            };
            Proxy::new(&before, secret).successor(&config)
        }
    };
    let mut decider = Decider::new(proxy);
    let datagram = Datagram {
        bytes: &message,
        source,
        listener,
    };
    let explanation = Explanation::of(&config, &mut decider, datagram);
    let mut out = io::BufWriter::new(io::stdout().lock());
    if args.json {
        writeln!(out, "{:#}", explanation.json(known))?;
    } else {
        out.write_all(explanation.text(known).as_bytes())?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn message(args: &ExplainArgs, config: &Config, source: SocketAddr) -> io::Result<Vec<u8>> {
    match &args.message {
        Some(path) if path == Path::new("-") => {
            let mut bytes = Vec::new();
            io::stdin().read_to_end(&mut bytes)?;
            Ok(bytes)
        }
        Some(path) => std::fs::read(path)
            .map_err(|error| io::Error::other(format!("{}: {error}", path.display()))),
        None => {
            let call_id = args.call_id.as_deref().unwrap_or("example@example.com");
            Ok(explain::invite(config, source, call_id))
        }
    }
}
