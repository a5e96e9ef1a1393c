//! `viaduct run`.

use clap::Args;

use super::Tunables;

/// Run the load balancer until SIGTERM or SIGINT.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a comment here would replace the help of the subcommand"
    )]
    pub tunables: Tunables,
}
