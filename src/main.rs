//! The `viaduct` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    viaduct::cli::main()
}
