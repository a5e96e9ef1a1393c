//! `viaduct explain`: the decision on one message, laid open.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::message::MessageArgs;
use super::offline;
use super::tunables::Tunables;
use crate::control::explain::{self, Decider, Explanation};
use crate::proxy::{Datagram, Proxy};

/// Show what would be done with a message, and why.
#[derive(Clone, Debug, Args)]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    tunables: Tunables,
    #[command(flatten)]
    message: MessageArgs,
    /// Configuration that was in force before: shows the second chance of CANCEL and ACK
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn explain(args: &ExplainArgs) -> io::Result<ExitCode> {
    let Some(config) = args.tunables.load()? else {
        return Ok(ExitCode::FAILURE);
    };
    let (secret, known) = offline::secret(&config)?;
    let named = args.message.listener.as_deref();
    let named = named.map(|name| offline::listener(&config, name));
    let arrival = explain::arrival(&config, args.message.from, named.transpose()?);
    let (source, listener) = arrival.map_err(io::Error::other)?;
    let call_id = args.message.call_id.as_deref();
    let invite = || explain::invite(&config, source, call_id.unwrap_or("example@example.com"));
    let message = args.message.octets()?.unwrap_or_else(invite);
    let proxy = match &args.before {
        None => Proxy::new(&config, secret),
        Some(path) => {
            let Some(before) = args.tunables.load_from("--before", path)? else {
                return Ok(ExitCode::FAILURE);
            };
            let former = Proxy::new(&before, secret.clone());
            offline::successor(&former, &before, &config, &secret)?.0
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
