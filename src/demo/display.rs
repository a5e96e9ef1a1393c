//! What is shown while the demo runs: a live frame on a terminal, else a
//! line each second.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use ratatui::crossterm::cursor::{MoveDown, Show};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::crossterm::style::Print;
use ratatui::crossterm::{execute, terminal};
use ratatui::{DefaultTerminal, Terminal, TerminalOptions, Viewport, backend::CrosstermBackend};

use super::fate::Fate;
use super::tally::{Counts, Rates, Window};
use super::{Plan, SERVERS, STOPPED, Stage, due, frame};

/// Time between two looks at the counts.
const TICK: Duration = Duration::from_millis(100);

/// Everything there is to show at one moment.
pub(super) struct Scene {
    pub(super) plan: Plan,
    pub(super) proxy: SocketAddr,
    pub(super) servers: [SocketAddr; SERVERS],
    pub(super) elapsed: Duration,
    pub(super) fate: Fate,
    pub(super) counts: Counts,
    pub(super) rates: Rates,
    /// Milliseconds from a request to its first response: the median, the
    /// 90th and 99th percentile, the maximum.
    pub(super) latency: [f64; 4],
}

impl Scene {
    pub(super) fn of(stage: &Stage, window: &mut Window) -> Self {
        let now = Instant::now();
        let elapsed = now - stage.start;
        let tally = stage.tally.lock();
        // The last rates stay in sight when no new calls are made.
        if elapsed < stage.plan.calling() {
            window.push(now, tally.counts);
        }
        Self {
            plan: stage.plan,
            proxy: stage.instance.address(0),
            servers: stage.addresses(),
            elapsed,
            fate: stage.fate,
            counts: tally.counts,
            rates: window.rates(),
            latency: tally.latencies(),
        }
    }

    /// The share of the new calls that a server answers now, and the share
    /// that its weight gives it.
    pub(super) fn share(&self, server: usize) -> (f64, f64) {
        let answered = &self.rates.answered;
        // More than begin now, where some of before are sent again to another.
        let all = answered.iter().sum::<f64>().max(self.rates.begun);
        (answered[server] / all.max(0.001), due(server))
    }

    /// What is happening.
    pub(super) fn now(&self) -> String {
        let server = STOPPED + 1;
        let waiting = self.counts.in_progress();
        if self.elapsed >= self.plan.calling() {
            match waiting {
                0 => "all calls have ended".to_owned(),
                1 => "no new calls; the last one ends or is given up".to_owned(),
                n => format!("no new calls; the last {n} end or are given up"),
            }
        } else {
            let Fate {
                stopped,
                out,
                started,
                back,
            } = self.fate;
            let left = |at: Duration| at.saturating_sub(self.elapsed).as_secs_f64().ceil();
            match (stopped, out, started, back) {
                (None, ..) => {
                    format!(
                        "server {server} stops in {:.0} s",
                        left(self.plan.stop_at())
                    )
                }
                (_, None, ..) => {
                    format!("server {server} stopped: its calls are lost, the others do not notice")
                }
                (_, _, None, _) => format!(
                    "server {server} is out, its calls go to others; it starts again in {:.0} s",
                    left(self.plan.start_at())
                ),
                (.., None) => format!("server {server} runs again, and has to answer two probes"),
                _ => format!("server {server} is back, with a growing part of its calls"),
            }
        }
    }

    fn line(&self) -> String {
        let Counts { lost, classes, .. } = self.counts;
        let shares: Vec<_> = (0..SERVERS)
            .map(|i| format!("{:.0}", 100.0 * self.share(i).0))
            .collect();
        format!(
            "{:>3.0} s  {:.0} calls/s, {} in progress, {lost} lost; share {} %; 1xx {} 2xx {}; \
             p50 {:.2} ms p99 {:.2} ms; {}",
            self.elapsed.as_secs_f64(),
            self.rates.begun,
            self.counts.in_progress(),
            shares.join("/"),
            classes[0],
            classes[1],
            self.latency[0],
            self.latency[2],
            self.now()
        )
    }
}

/// How it is shown.
pub(super) enum Display {
    /// On a terminal.
    Live(Live),
    /// A line each second, with the number of the next one.
    Lines(u32),
    Silent,
}

impl Display {
    /// A terminal that cannot be drawn on gets lines, as what is no terminal.
    pub(super) fn open(silent: bool) -> Self {
        match silent {
            true => Self::Silent,
            false if io::stdout().is_terminal() => Live::open().map_or(Self::Lines(1), Self::Live),
            false => Self::Lines(1),
        }
    }

    /// Shows a scene, if it is time for it or the last one.
    pub(super) fn show(&mut self, scene: &Scene, last: bool) -> io::Result<()> {
        match self {
            Self::Live(live) => {
                live.terminal.draw(|frame| frame::draw(frame, scene))?;
            }
            Self::Lines(next) if last || scene.elapsed >= Duration::from_secs((*next).into()) => {
                *next += 1;
                writeln!(io::stdout(), "{}", scene.line())?;
            }
            Self::Lines(_) | Self::Silent => {}
        }
        Ok(())
    }

    /// Waits for the next scene; true where somebody wants the demo to end.
    pub(super) fn wait(&self) -> io::Result<bool> {
        let Self::Live(_) = self else {
            thread::sleep(TICK);
            return Ok(false);
        };
        if !event::poll(TICK)? {
            return Ok(false);
        }
        let Event::Key(key) = event::read()? else {
            return Ok(false);
        };
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        Ok(matches!(key.code, KeyCode::Char('c') if control) || key.code == KeyCode::Char('q'))
    }
}

/// A terminal in raw mode, so that keys do not write into the frame; as it
/// was before when dropped, and on a panic. The frame stays in its scrollback.
pub(super) struct Live {
    terminal: DefaultTerminal,
}

impl Live {
    fn open() -> io::Result<Self> {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            // Below the frame, wherever in it the cursor is.
            let _ = execute!(io::stdout(), MoveDown(frame::HEIGHT), Print("\n"));
            hook(panic);
        }));
        terminal::enable_raw_mode()?;
        let viewport = Viewport::Inline(frame::HEIGHT);
        Terminal::with_options(
            CrosstermBackend::new(io::stdout()),
            TerminalOptions { viewport },
        )
        .map(|terminal| Self { terminal })
        .inspect_err(|_| restore())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // Below the frame, where the shell goes on.
        let end = self.terminal.get_frame().area().bottom().saturating_sub(1);
        let _ = self.terminal.set_cursor_position((0, end));
        restore();
        let _ = writeln!(io::stdout());
    }
}

fn restore() {
    let _ = terminal::disable_raw_mode();
    let _ = execute!(io::stdout(), Show);
}
