//! `viaduct demo`.

use clap::Args;

/// Run calls through a load balancer and three SIP servers on loopback.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// How long calls are made, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 12)]
    pub seconds: u64,
    /// New calls a second
    #[arg(long, value_name = "CALLS", default_value_t = 200)]
    pub rate: u32,
    /// Print the summary as JSON, without the live display
    #[arg(long)]
    pub json: bool,
}
