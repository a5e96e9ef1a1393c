//! The programs that are compared: where they are, what they say of
//! themselves, and one of them under way.

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::io;
use rustix::process::{Pid, Signal, kill_process};

/// How long a program may take to be ready, and to end after SIGTERM.
const START: Duration = Duration::from_secs(10);
const END: Duration = Duration::from_secs(5);

/// The Viaduct binary that was built beside this one.
pub(crate) fn viaduct_beside() -> Result<PathBuf> {
    Ok(env::current_exe()?.with_file_name("viaduct"))
}

/// What the Viaduct of this path says of its version.
///
/// # Errors
/// It is missing or does not run.
pub(crate) fn viaduct_version(binary: &Path) -> Result<String> {
    version(binary, "--version", "build it: cargo build --release")
}

/// Those of `all` whose names were asked for; all of them where none was.
///
/// # Errors
/// There is none of that name.
pub(crate) fn chosen<T>(
    all: Vec<T>,
    name: impl Fn(&T) -> &str,
    asked: &[String],
) -> Result<Vec<T>> {
    let names: Vec<_> = all.iter().map(&name).collect();
    for one in asked {
        let known = names.contains(&one.as_str());
        ensure!(
            known,
            "there is no contender {one}; there are {}",
            names.join(", ")
        );
    }
    let wanted = |one: &T| asked.is_empty() || asked.iter().any(|text| text == name(one));
    Ok(all.into_iter().filter(wanted).collect())
}

/// The first line that `program` says of its version.
///
/// # Errors
/// The program is missing or does not run; `remedy` says what to do then.
pub(crate) fn version(program: &Path, flag: &str, remedy: &str) -> Result<String> {
    let output = Command::new(program)
        .arg(flag)
        .output()
        .with_context(|| format!("{} cannot be run; {remedy}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().unwrap_or_default();
    ensure!(
        !line.is_empty(),
        "{} {flag} says nothing",
        program.display()
    );
    Ok(line.to_owned())
}

/// Makes `folder`, with nothing in it.
///
/// # Errors
/// It cannot be made, or what was there before cannot be removed.
pub(crate) fn fresh(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// A program under way; ended when dropped.
pub(crate) struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts `command`; what it says goes to NAME.log in the folder `out`.
    ///
    /// # Errors
    /// It cannot be started, or `out` cannot be written.
    pub(crate) fn start(name: &str, mut command: Command, out: &Path) -> Result<Self> {
        let log = out.join(format!("{name}.log"));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(&log).context("cannot write the log")?);
        let child = command.spawn();
        Ok(Self {
            name: name.to_owned(),
            child: child.with_context(|| format!("{name} cannot be started"))?,
            log,
        })
    }

    /// Writes a line to its standard input.
    ///
    /// # Errors
    /// It has ended, or reads none.
    pub(crate) fn tell(&mut self, line: &str) -> Result<()> {
        let name = &self.name;
        let input = self.child.stdin.as_mut().context("no standard input")?;
        writeln!(input, "{line}").with_context(|| format!("{name} does not listen"))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It is not there any more.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        kill_process(Pid::from_child(&self.child), signal)
    }

    /// Fails with what it last said, if it has ended of its own accord.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!(
                "{} did not start, or ended by itself ({status}){}",
                self.name,
                self.last_words()
            );
        }
        Ok(())
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// It has ended, or takes too long.
    pub(crate) fn wait(&mut self, is_ready: impl Fn(&Self) -> bool) -> Result<()> {
        let begin = Instant::now();
        while !is_ready(self) {
            self.check()?;
            let words = || format!("{} is not ready{}", self.name, self.last_words());
            ensure!(begin.elapsed() < START, words());
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// What it has said so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How many lines of its log begin with `words`.
    pub(crate) fn said(&self, words: &str) -> usize {
        self.log()
            .lines()
            .filter(|line| line.starts_with(words))
            .count()
    }

    /// The last lines of its log.
    pub(crate) fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(5)..].join("\n  ");
        format!("; its last words in {}:\n  {last}", self.log.display())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to ask for.
        let _ = self.signal(Signal::TERM);
        let begin = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begin.elapsed() > END {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}
