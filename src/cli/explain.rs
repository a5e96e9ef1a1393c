//! `viaduct explain`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::Tunables;
use crate::config::text;

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
    #[arg(long, value_name = "FILE")]
    pub message: Option<PathBuf>,
    /// Call-ID of the message; without --message, of a plain INVITE
    #[arg(long, value_name = "ID")]
    pub call_id: Option<String>,
    /// Source address of the message, with port 5060 unless given
    #[arg(long, value_name = "ADDR", value_parser = text::address)]
    pub from: Option<SocketAddr>,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}
