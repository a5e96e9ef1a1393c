//! The screen: the whole instance above, lists below that can be scrolled.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, BorderType, Clear, Padding, Paragraph};

use super::lists;
use super::rates::Rates;
use super::screen::Screen;
use crate::cli::words::{age, count, milliseconds, rate};
use crate::config::text::printable;
use crate::control::Status;
use crate::demo::fitting;

/// Columns of the labels on the left.
const LABEL: usize = 12;

/// What `?` shows.
const HELP: [&str; 16] = [
    "q, Esc      quit",
    "↑ ↓         scroll by a line",
    "PgUp PgDn   scroll by a page",
    "Home End    to the begin, to the end",
    "s           sort by the next column",
    "p           pause, and go on",
    "?           this help",
    "",
    "│ in a bar: where its weight puts it",
    "due: the share its weight gives it",
    "fail: responses 4xx, 5xx and 6xx",
    "",
    "AP AX   active, probed or not",
    "TP      its latest probe failed, or it warms up",
    "IP IX   down; draining",
    "DX      disabled",
];

pub(super) fn draw(frame: &mut Frame<'_>, screen: &mut Screen) {
    let width = frame.area().width;
    let head = head(screen, width);
    let height = Constraint::Length(head.len() as u16);
    let [above, below, keys] =
        Layout::vertical([height, Constraint::Fill(1), Constraint::Length(1)]).areas(frame.area());
    frame.render_widget(Text::from(head), above);

    let lists = match &screen.latest {
        Some((status, rates)) => lists::lines(status, rates, screen.sort, width),
        None => Vec::new(),
    };
    screen.page = below.height;
    let lines = u16::try_from(lists.len()).unwrap_or(u16::MAX);
    let last = lines.saturating_sub(below.height);
    screen.scroll = screen.scroll.min(last);
    let lists = Paragraph::new(lists).scroll((screen.scroll, 0));
    frame.render_widget(lists, below);
    draw_keys(frame, keys, screen, last);
    if screen.help {
        draw_help(frame);
    }
}

/// Everything as plain text.
pub(super) fn plain(screen: &Screen, width: u16) -> Vec<String> {
    let mut lines = head(screen, width);
    if let Some((status, rates)) = &screen.latest {
        lines.extend(lists::lines(status, rates, screen.sort, width));
    }
    let lines = lines.iter().map(|line| printable(&line.to_string()));
    lines.map(|line| line.trim_end().to_owned()).collect()
}

fn head(screen: &Screen, width: u16) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if let Some(trouble) = &screen.trouble {
        let trouble = trouble.lines().next().unwrap_or_default();
        let old = screen.latest.as_ref().map(|_| {
            let seconds = screen.taken.elapsed().as_secs();
            format!("figures are {} old: ", age(Some(seconds)))
        });
        let old = old.unwrap_or_default();
        let text = format!("{old}not reachable: {trouble}; trying again");
        lines.push(Line::from(text.fg(Color::Red).bold()));
    }
    let Some((status, rates)) = &screen.latest else {
        if lines.is_empty() {
            lines.push(Line::from(format!("asking {}", screen.place)));
        }
        return lines;
    };
    let rows: [(&str, Vec<Span<'static>>); 5] = [
        ("calls", calls(rates)),
        ("responses", responses(rates)),
        ("in balancer", in_balancer(rates)),
        ("stateful", stateful(status, rates)),
        ("reload", vec![reload(status)]),
    ];
    lines.push(fitting(title(status), usize::from(width)));
    for (label, row) in rows {
        let mut line = Line::from(format!("{label:<LABEL$}").dim());
        line.extend(fitting(row, usize::from(width).saturating_sub(LABEL)));
        lines.push(line);
    }
    lines.push(Line::default());
    lines
}

fn title(status: &Status) -> Vec<Span<'static>> {
    vec![
        format!("viaduct {}", status.version).bold(),
        match status.ready {
            true => "ready".fg(Color::Green).bold(),
            false => "not ready".fg(Color::Red).bold(),
        },
        format!("up {}", age(Some(status.uptime_seconds as u64))).into(),
        format!("generation {}", status.generation).into(),
        format!("table {}", status.table_id).into(),
        format!("pid {}", status.pid).into(),
    ]
}

fn calls(rates: &Rates) -> Vec<Span<'static>> {
    let dropped = rates.dropped.iter().map(|each| each.per_second).sum();
    vec![
        format!("{} INVITE/s", rate(rates.calls_per_second)).bold(),
        format!("{} messages/s", rate(rates.messages_per_second)).into(),
        alarming(format!("{} dropped/s", rate(dropped)), dropped),
        format!("{} own replies/s", rate(rates.replies_per_second)).into(),
        match rates.since_start {
            true => "(means since the start)".dim(),
            false => format!("(over {:.1} s)", rates.seconds).dim(),
        },
    ]
}

fn responses(rates: &Rates) -> Vec<Span<'static>> {
    let classes = rates.responses_per_second.iter();
    let mut each: Vec<Span<'_>> = classes
        .map(|(class, per_second)| {
            let text = format!("{class} {}", rate(*per_second));
            match class.as_str() {
                "5xx" | "6xx" => alarming(text, *per_second),
                _ => text.into(),
            }
        })
        .collect();
    each.push("/s".into());
    each
}

fn in_balancer(rates: &Rates) -> Vec<Span<'static>> {
    vec![
        format!("p50 {}", milliseconds(rates.in_balancer_p50_ms)).into(),
        format!("p99 {}", milliseconds(rates.in_balancer_p99_ms)).into(),
    ]
}

fn stateful(status: &Status, rates: &Rates) -> Vec<Span<'static>> {
    let totals = &status.totals.transactions;
    let each = |name: &str, per_second: f64, total: u64| {
        format!("{} {name}/s ({})", rate(per_second), count(total))
    };
    let failovers = rates.failovers_per_second;
    vec![
        format!("{} transactions held", count(totals.held)).into(),
        format!("{} begun/s", rate(rates.transactions_per_second)).into(),
        alarming(each("failovers", failovers, totals.failed_over), failovers),
        each(
            "retransmissions",
            rates.retransmissions_per_second,
            totals.retransmitted,
        )
        .into(),
    ]
}

fn reload(status: &Status) -> Span<'static> {
    let Some(last) = &status.last_reload else {
        return "none since the start".into();
    };
    let ago = age(Some((status.time - last.at).max(0.0) as u64));
    let said = last.said.lines().next().unwrap_or_default();
    match last.successful {
        true => format!("taken {ago} ago: {said}").into(),
        false => format!("refused {ago} ago: {said}").fg(Color::Red),
    }
}

/// Stands out where it is not 0.
fn alarming(text: String, value: f64) -> Span<'static> {
    match value > 0.0 {
        true => text.fg(Color::Yellow),
        false => text.into(),
    }
}

fn draw_keys(frame: &mut Frame<'_>, area: Rect, screen: &Screen, last: u16) {
    let mut keys = vec![
        "q quit".into(),
        "? help".into(),
        match screen.paused {
            true => "p go on (paused)".fg(Color::Yellow).bold(),
            false => "p pause".into(),
        },
        format!("s sort: {}", screen.sort.name()).into(),
    ];
    if last > 0 {
        keys.push(format!("↑↓ scroll: {} of {last}", screen.scroll).into());
    }
    keys.push(screen.place.clone().dim());
    let bar = fitting(keys, usize::from(area.width));
    frame.render_widget(bar.style(Style::new().reversed()), area);
}

fn draw_help(frame: &mut Frame<'_>) {
    let width = HELP.iter().map(|line| line.chars().count()).max();
    let (width, height) = (width.unwrap_or(0) as u16 + 4, HELP.len() as u16 + 2);
    let area = frame
        .area()
        .centered(Constraint::Length(width), Constraint::Length(height));
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .title(" keys and words ".bold())
        .padding(Padding::horizontal(1));
    frame.render_widget(Clear, area);
    frame.render_widget(
        Paragraph::new(HELP.map(Line::from).to_vec()).block(block),
        area,
    );
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::KeyCode;

    use super::*;
    use crate::cli::top::sample;
    use crate::control::status::WorkerStatus;

    /// The screen a second after the sample, in which this has happened.
    fn screen(change: impl Fn(&mut Status)) -> Screen {
        let mut screen = Screen::new("unix:/run/viaduct/admin.sock".to_owned());
        let mut status = sample::status();
        screen.take(Ok(status.clone()));
        status.time += 1.0;
        status.uptime_seconds += 1.0;
        change(&mut status);
        screen.take(Ok(status));
        screen
    }

    /// What a terminal of this size shows.
    fn shown(screen: &mut Screen, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, screen)).unwrap();
        let cells = terminal.backend().buffer().content();
        let rows = cells.chunks(usize::from(width)).map(|row| {
            let row: String = row.iter().map(|cell| cell.symbol()).collect();
            row.trim_end().to_owned()
        });
        rows.collect::<Vec<_>>().join("\n")
    }

    #[track_caller]
    fn assert_shows(text: &str, wanted: &[&str]) {
        for wanted in wanted {
            assert!(text.contains(wanted), "no {wanted:?} in\n{text}");
        }
    }

    fn calls(status: &mut Status) {
        status.totals.received += 6_000;
        *status.totals.requests.get_mut("INVITE").unwrap() += 1_000;
        *status.totals.responses.get_mut("2xx").unwrap() += 2_000;
        *status.totals.dropped.get_mut("forged-response").unwrap() += 5;
        status.totals.transactions.failed_over += 2;
        status.totals.time_in_balancer.counts[0] += 10;
        status.sets[0].destinations[0].requests += 700;
        status.sets[0].destinations[1].requests += 300;
        status.sets[0].destinations[1].retransmitted += 30;
        *status.sets[0].destinations[1]
            .responses
            .get_mut("5xx")
            .unwrap() += 9;
        status.workers[0].received += 4_000;
        status.workers[0].busy_seconds += 0.25;
    }

    #[test]
    fn a_terminal_of_80_by_24_shows_what_matters() {
        let text = shown(&mut screen(calls), 80, 24);
        let facts = [
            "viaduct 1.2.3",
            "ready",
            "up 25 h",
            "generation 3",
            "table 00c0ffee",
        ];
        assert_shows(&text, &facts);
        let rates = [
            "1,000 INVITE/s",
            "6,000 messages/s",
            "5.0 dropped/s",
            "2xx 2,000",
        ];
        assert_shows(&text, &rates);
        assert_shows(
            &text,
            &[
                "p50 0.05 ms",
                "2.0 failovers/s (6)",
                "taken 2 min ago: reloaded",
            ],
        );
        assert_shows(
            &text,
            &["set default", "hash by call-id", "AP active", "IX draining"],
        );
        assert_shows(
            &text,
            &["TP active, suspect", "no answer in 1 s", "70 %", "10 %"],
        );
        assert_shows(&text, &["25 %", "4,000", "forged-response", "q quit"]);
    }

    #[test]
    fn a_wide_terminal_shows_each_class_and_age() {
        let text = shown(&mut screen(calls), 160, 50);
        let columns = ["due", "1xx", "6xx", "probe", "seen", "dialog"];
        assert_shows(&text, &columns);
        assert_shows(
            &text,
            &["75 %", "0.42 ms", "75 s", "unix:/run/viaduct/admin.sock"],
        );
        let row = text
            .lines()
            .find(|row| row.contains("127.0.0.1:5072"))
            .unwrap();
        assert!(row.contains("9.0"), "{row}");
    }

    #[test]
    fn no_row_is_wider_than_its_terminal() {
        let longest = "[fd00:1000:2000:3000:4000:5000:6000:7000]:65535";
        for address in ["127.0.0.1:5072", "[2001:db8:10:20::11]:5060", longest] {
            let screen = screen(|status| {
                calls(status);
                status.sets[0].destinations[1].address = address.parse().unwrap();
            });
            for width in [80, 90, 100, 110, 120, 135, 155, 160] {
                let rows = plain(&screen, width);
                for row in &rows {
                    let columns = row.chars().count();
                    assert!(columns <= usize::from(width), "{columns} of {width}: {row}");
                }
                let row = |start: &str| rows.iter().find(|row| row.starts_with(start)).unwrap();
                let title = row("destination ").find("state");
                let words = row(&format!("{address} ")).find("TP active, suspect");
                assert!(words.is_some() && words == title, "{rows:#?}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_reached_by_scrolling() {
        let mut screen = screen(calls);
        assert!(!shown(&mut screen, 80, 14).contains("forged-response"));
        screen.press(KeyCode::End);
        let text = shown(&mut screen, 80, 14);
        assert_shows(&text, &["forged-response", "viaduct 1.2.3"]);
        assert!(!text.contains("set default"), "{text}");
    }

    #[test]
    fn of_more_lines_than_can_be_scrolled_the_last_that_can_is_the_end() {
        let mut screen = screen(|status| {
            let more = (2..66_000).map(|number| WorkerStatus {
                number,
                ..status.workers[1].clone()
            });
            let more: Vec<_> = more.collect();
            status.workers.extend(more);
        });
        screen.press(KeyCode::End);
        assert_shows(&shown(&mut screen, 80, 24), &["\n655"]);
    }

    #[test]
    fn a_set_whose_destinations_are_all_down_stands_out() {
        let text = shown(&mut screen(|status| status.sets[0].open = true), 80, 24);
        let alarm =
            "\n  all are down: new work goes to them all the same (when-all-down = forward)";
        assert_shows(&text, &[alarm]);
    }

    #[test]
    fn a_set_without_a_destination_says_why() {
        let mut screen = screen(|status| {
            status.sets[0].destinations.clear();
            status.sets[0].unresolved.push("farm.test".to_owned());
        });
        let text = shown(&mut screen, 80, 24);
        assert_shows(
            &text,
            &[
                "no destination: new work gets 503 unless a rule takes it",
                "not resolved: farm.test",
            ],
        );
    }

    #[test]
    fn who_does_not_answer_is_told_above_what_was_known() {
        let mut screen = screen(calls);
        screen.take(Err("connection refused".to_owned()));
        let text = shown(&mut screen, 100, 24);
        assert_shows(
            &text,
            &[
                "figures are 0 s old: not reachable: connection refused; trying again",
                "set default",
            ],
        );
        let mut screen = Screen::new("unix:x".to_owned());
        assert_shows(&shown(&mut screen, 80, 24), &["asking unix:x"]);
    }

    #[test]
    fn help_names_the_keys_and_the_letters() {
        let mut screen = screen(calls);
        screen.press(KeyCode::Char('?'));
        assert_shows(
            &shown(&mut screen, 80, 24),
            &["scroll by a page", "IP IX", "disabled"],
        );
    }

    #[test]
    fn the_smallest_terminal_is_no_reason_to_panic() {
        for (width, height) in [(1, 1), (10, 3), (40, 10)] {
            let mut screen = screen(calls);
            screen.press(KeyCode::Char('?'));
            shown(&mut screen, width, height);
        }
    }

    #[test]
    fn control_characters_of_a_text_do_not_reach_the_terminal() {
        let text = shown(
            &mut screen(|status| status.sets[0].name = "a\u{1b}[31mb".into()),
            80,
            24,
        );
        assert!(!text.contains('\u{1b}'), "{text:?}");
        let plain = plain(
            &screen(|status| status.sets[0].name = "a\u{1b}[31mb".into()),
            80,
        );
        assert!(!plain.concat().contains('\u{1b}'), "{plain:?}");
    }
}
