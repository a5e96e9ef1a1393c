//! What systemd is told of the process (`sd_notify(3)`).

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

/// How long it may take to take a message.
const PATIENCE: Duration = Duration::from_millis(100);

/// Tells systemd; where there is none, there is nobody to tell. What it does not
/// take is lost: `sd_notify::notify` would wait as long as nothing is read there,
/// and everything with it. Nor does that know an abstract socket.
pub(super) fn notify(states: &[NotifyState<'_>]) {
    if let Some(path) = env::var_os("NOTIFY_SOCKET") {
        let said: Vec<_> = states.iter().map(|state| format!("{state}\n")).collect();
        let _ = tell(&path, &said.concat());
    }
}

fn tell(path: &OsStr, said: &str) -> io::Result<()> {
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.send_to_addr(said.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_by_a_path_or_an_abstract_name_and_not_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let name = format!("viaduct-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        for (socket, path) in [
            (UnixDatagram::bind(&path), path.into_os_string()),
            (UnixDatagram::bind_addr(&address), format!("@{name}").into()),
        ] {
            let socket = socket.expect("a socket");
            tell(&path, "READY=1").expect("room");
            let mut octets = [0; 64];
            let length = socket.recv(&mut octets).expect("a message");
            assert_eq!(&octets[..length], b"READY=1");
            // Nobody reads any more.
            let lost = std::iter::repeat_with(|| tell(&path, "WATCHDOG=1"));
            let lost = lost.take(100_000).find_map(Result::err);
            assert_eq!(
                lost.map(|error| error.kind()),
                Some(io::ErrorKind::WouldBlock)
            );
        }
    }
}
