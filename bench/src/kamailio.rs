//! Kamailio: how it is started with a script, and told things.

use std::fs;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::running;

const REMEDY: &str = "install it: apt-get install kamailio";

/// The file of its folder that names the destinations.
pub(crate) const LIST: &str = "dispatcher.list";

/// What it says of its version.
///
/// # Errors
/// It is missing or does not run.
pub(crate) fn version() -> Result<String> {
    running::version("kamailio".as_ref(), "-v", REMEDY)
}

/// Kamailio on `listen` with this script, and all its files in `folder`.
///
/// # Errors
/// The script cannot be written there.
pub(crate) fn command(listen: SocketAddrV4, script: &str, folder: &Path) -> Result<Command> {
    let path = folder.join("kamailio.cfg");
    fs::write(&path, script).with_context(|| format!("cannot write {}", path.display()))?;
    let define = |name: &str, path: PathBuf| format!("--substdef=!{name}!{}!", path.display());
    let mut command = Command::new("kamailio");
    command
        .args(["-DD", "-E", "-l", &format!("udp:{listen}")])
        // Its default allocator, made for debugging, costs it 2 us a message.
        .args(["-x", "tlsf", "-X", "tlsf"])
        .arg("-f")
        .arg(path)
        .arg(define("DISPATCHER_LIST", folder.join(LIST)))
        .arg(define("CTL_SOCKET", control(folder)))
        .arg("-w")
        .arg(folder)
        .arg("-Y")
        .arg(folder);
    Ok(command)
}

/// Tells the one whose files are in `folder`.
///
/// # Errors
/// It does not hear, or refuses.
pub(crate) fn tell(folder: &Path, what: &str) -> Result<()> {
    let output = Command::new("kamcmd")
        .arg("-s")
        .arg(format!("unix:{}", control(folder).display()))
        .arg(what)
        .output()
        .with_context(|| format!("kamcmd cannot be run; {REMEDY}"))?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let well = output.status.success() && !said.contains("error");
    ensure!(well, "kamcmd {what}: {}", said.trim());
    Ok(())
}

/// The socket that it is told things by.
fn control(folder: &Path) -> PathBuf {
    folder.join("control")
}
