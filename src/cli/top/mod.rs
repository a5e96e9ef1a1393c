//! `viaduct top`: a running instance as it changes, on a terminal.

mod draw;
mod lists;
mod rates;
#[cfg(test)]
mod sample;
mod screen;

use std::io::{self, IsTerminal, Write};
use std::panic;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::{execute, terminal};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::client::{Admin, Client, ClientError, SOCKET};
use crate::config::text;
use crate::control::Status;
use rates::Rates;
use screen::Screen;

/// Columns where neither a terminal nor `COLUMNS` says how many there are.
const WIDTH: u16 = 120;

/// How long a key waits at most until it is looked at.
const TICK: Duration = Duration::from_millis(100);

/// How long an answer may take, so that no figure is older without being said
/// to be.
const PATIENCE: Duration = Duration::from_secs(3);

/// Watch a running instance: calls, shares, responses, drops, workers.
#[derive(Clone, Debug, Args)]
pub(super) struct TopArgs {
    /// The instance: the path of its admin socket, or http://ADDR:PORT
    #[arg(long, value_name = "PATH|URL", env = "VIADUCT_ADMIN", default_value = SOCKET)]
    admin: Admin,
    /// Time between two looks, 100ms to 1h
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = text::interval)]
    interval: Duration,
    /// One look after one interval, as plain text; this is also what you get where stdout is not a terminal, or TERM is dumb
    #[arg(long)]
    once: bool,
    /// A line of JSON with the rates of each interval
    #[arg(long)]
    json: bool,
}

pub(super) fn top(args: &TopArgs) -> io::Result<ExitCode> {
    // To read takes no token.
    let client = Client::new(args.admin.clone(), None, PATIENCE)?;
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let live_screen = io::stdout().is_terminal() && !dumb;
    match (args.json, args.once || !live_screen) {
        (true, _) => lines(&client, args)?,
        (false, true) => once(&client, args)?,
        (false, false) => live(client, args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn ask(client: &Client) -> Result<Status, ClientError> {
    client.get("/api/v1/status")
}

fn once(client: &Client, args: &TopArgs) -> io::Result<()> {
    let mut screen = Screen::new(args.admin.to_string());
    screen.take(Ok(ask(client)?));
    thread::sleep(args.interval);
    screen.take(Ok(ask(client)?));
    let columns = std::env::var("COLUMNS").ok();
    let columns = columns.and_then(|columns| columns.parse().ok());
    let columns = columns.or_else(|| terminal::size().ok().map(|(columns, _)| columns));
    let mut out = io::stdout().lock();
    for line in draw::plain(&screen, columns.unwrap_or(WIDTH)) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn lines(client: &Client, args: &TopArgs) -> io::Result<()> {
    let mut before = ask(client)?;
    loop {
        thread::sleep(args.interval);
        let now = match ask(client) {
            Ok(now) => now,
            Err(error) if args.once => return Err(error.into()),
            Err(error) => {
                writeln!(
                    io::stderr(),
                    "viaduct: not reachable: {error}; trying again"
                )?;
                continue;
            }
        };
        let line = serde_json::to_string(&Rates::between(Some(&before), &now))?;
        writeln!(io::stdout(), "{line}")?;
        if args.once {
            return Ok(());
        }
        before = now;
    }
}

fn live(client: Client, args: &TopArgs) -> io::Result<()> {
    let interval = args.interval;
    let mut screen = Screen::new(args.admin.to_string());
    let (sender, answers) = mpsc::channel();
    // By a thread of its own, so that keys need not wait for an answer. It
    // ends with the process.
    thread::spawn(move || {
        while sender.send(ask(&client)).is_ok() {
            thread::sleep(interval);
        }
    });
    // A panic ends the program at once: nothing is dropped, which would show it.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |what| {
        let _ = execute!(io::stdout(), Show);
        hook(what);
    }));
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&ended))?;
    }
    let mut terminal = ratatui::try_init()?;
    let outcome = watch(&mut terminal, &mut screen, &answers, &ended);
    ratatui::restore();
    outcome
}

fn watch(
    terminal: &mut DefaultTerminal,
    screen: &mut Screen,
    answers: &Receiver<Result<Status, ClientError>>,
    ended: &AtomicBool,
) -> io::Result<()> {
    while !ended.load(Ordering::Relaxed) {
        for answer in answers.try_iter() {
            screen.take(answer.map_err(|error| error.to_string()));
        }
        terminal.draw(|frame| draw::draw(frame, screen))?;
        if !event::poll(TICK)? {
            continue;
        }
        let Event::Key(key) = event::read()? else {
            continue;
        };
        let interrupt =
            key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
        if interrupt || (key.kind == KeyEventKind::Press && screen.press(key.code)) {
            break;
        }
    }
    Ok(())
}
