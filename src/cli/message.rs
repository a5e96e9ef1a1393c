//! The message that is explained.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::config::text;

/// What is explained.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub(super) struct MessageArgs {
    /// A SIP message as it would arrive in one datagram; `-` for stdin
    #[arg(long, value_name = "FILE", conflicts_with = "call_id")]
    message: Option<PathBuf>,
    /// A plain INVITE with this Call-ID instead of a message
    #[arg(long, value_name = "ID")]
    pub(super) call_id: Option<String>,
    /// Where the message comes from, with port 5060 unless given [default: 192.0.2.1, or 2001:db8::1 for a listener of IPv6]
    #[arg(long, value_name = "ADDR", value_parser = text::address)]
    pub(super) from: Option<SocketAddr>,
    /// The listener that it comes in on [default: the first of the family of --from]
    #[arg(long, value_name = "NAME")]
    pub(super) listener: Option<String>,
}

impl MessageArgs {
    /// The octets of the message, where one is given.
    pub(super) fn octets(&self) -> io::Result<Option<Vec<u8>>> {
        let Some(path) = &self.message else {
            return Ok(None);
        };
        if path != Path::new("-") {
            let octets = std::fs::read(path);
            return octets.map(Some).map_err(|error| {
                io::Error::other(format!(
                    "{}: {error}\n  help: give a file with one SIP message, or `-` for stdin",
                    path.display()
                ))
            });
        }
        let mut octets = Vec::new();
        io::stdin().read_to_end(&mut octets)?;
        Ok(Some(octets))
    }
}
