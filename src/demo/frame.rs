//! The live frame: a few lines of text and a bar for each server.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, LineGauge, Padding, Paragraph, Wrap};

use super::display::Scene;
use super::{SERVERS, STOPPED, WEIGHTS};

/// Lines of the frame.
pub(super) const HEIGHT: u16 = 15;
/// Columns of the labels on the left.
const LABEL: u16 = 11;
/// The share that fills a whole bar.
const FULL: f64 = 0.65;
/// A cell filled by so many eighths.
const EIGHTHS: [&str; 9] = [" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"];

pub(super) fn draw(frame: &mut Frame<'_>, scene: &Scene) {
    let title = format!(" viaduct demo: calls through {} ", scene.proxy);
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(Style::new().dim())
        .title(title.bold())
        .padding(Padding::horizontal(1));
    let inner = block.inner(frame.area());
    frame.render_widget(block, frame.area());
    let rows: [Rect; 7] = Layout::vertical([1, 2, SERVERS as u16, 2, 1, 2, 2]).areas(inner);
    let [time, calls, servers, legend, responses, latency, now] = rows;

    draw_time(frame, time, scene);
    draw_items(frame, calls, "calls".dim(), call_items(scene));
    for (i, row) in servers.rows().enumerate() {
        draw_server(frame, row, scene, i);
    }
    let texts = ["│ where its weight puts it", "of the last 2 s of new calls"];
    let texts = texts.map(Stylize::dim).to_vec();
    draw_items(frame, legend, "".into(), texts);
    draw_items(frame, responses, "responses".dim(), response_items(scene));
    draw_items(frame, latency, "latency".dim(), latency_items(scene));
    let colour = if scene.fate.is_dead() {
        Color::Yellow
    } else {
        Color::Cyan
    };
    let text = Paragraph::new(scene.now().fg(colour).bold()).wrap(Wrap { trim: true });
    let area = labelled(frame, now, "now".dim());
    frame.render_widget(text, area);
}

/// Writes the label; what is right of it is returned.
fn labelled(frame: &mut Frame<'_>, row: Rect, label: Span<'_>) -> Rect {
    let [left, right] =
        Layout::horizontal([Constraint::Length(LABEL), Constraint::Fill(1)]).areas(row);
    frame.render_widget(label, left);
    right
}

fn draw_items(frame: &mut Frame<'_>, row: Rect, label: Span<'_>, items: Vec<Span<'static>>) {
    let area = labelled(frame, row, label);
    frame.render_widget(fitting(items, usize::from(area.width)), area);
}

fn draw_time(frame: &mut Frame<'_>, row: Rect, scene: &Scene) {
    let (elapsed, end) = (scene.elapsed.as_secs_f64(), scene.plan.end().as_secs_f64());
    let gauge = LineGauge::default()
        .ratio((elapsed / end).min(1.0))
        .label(format!(
            "{:<18}",
            format!("{elapsed:.1} s of about {end:.0} s")
        ))
        .filled_symbol("━")
        .unfilled_symbol("─")
        .filled_style(Color::Cyan)
        .unfilled_style(Style::new().dim());
    let area = labelled(frame, row, "time".dim());
    frame.render_widget(gauge, area);
}

fn call_items(scene: &Scene) -> Vec<Span<'static>> {
    let counts = &scene.counts;
    let lost = format!("{} lost", counts.lost);
    vec![
        match scene.elapsed < scene.plan.calling() {
            true => format!("{:.0} /s", scene.rates.begun).bold(),
            false => "no new ones".bold(),
        },
        match counts.lost {
            0 => lost.into(),
            _ => lost.fg(Color::Red),
        },
        format!("{} in progress", counts.in_progress()).into(),
        format!("{} completed", counts.completed).into(),
        format!("{} resent", counts.repeated).into(),
    ]
}

fn response_items(scene: &Scene) -> Vec<Span<'static>> {
    let classes = scene.counts.classes.iter().enumerate();
    let item = |(i, n): (usize, &u64)| match (i, n) {
        (2.., 1..) => format!("{}xx {n}", i + 1).fg(Color::Red),
        _ => format!("{}xx {n}", i + 1).into(),
    };
    classes.map(item).collect()
}

fn latency_items(scene: &Scene) -> Vec<Span<'static>> {
    let names = ["p50", "p90", "p99", "max"].into_iter();
    let item = |(name, ms): (&str, f64)| Span::from(format!("{name} {ms:.2} ms"));
    names.zip(scene.latency).map(item).collect()
}

/// Name, address, weight, bar, share and rate, as far as there is room.
fn draw_server(frame: &mut Frame<'_>, row: Rect, scene: &Scene, server: usize) {
    let down = scene.fate.is_dead() && server == STOPPED;
    let colour = if down { Color::Red } else { Color::Green };
    let (share, due) = scene.share(server);
    let address = match down {
        true => Span::from("stopped").red().bold(),
        false => scene.servers[server].to_string().into(),
    };
    let columns: [(u16, u16, Line<'_>); 4] = [
        (60, 17, address.into()),
        (44, 10, format!("weight {}", WEIGHTS[server]).into()),
        (
            0,
            6,
            Line::from(format!("{:.0} %", 100.0 * share).bold()).right_aligned(),
        ),
        (
            52,
            10,
            Line::from(format!("{:.0} /s", scene.rates.answered[server])).right_aligned(),
        ),
    ];
    let widths = columns
        .each_ref()
        .map(|(from, width, _)| match row.width >= *from {
            true => Constraint::Length(*width),
            false => Constraint::Length(0),
        });
    let label = format!("server {}", server + 1);
    let label = if down { label.fg(colour) } else { label.dim() };
    let area = labelled(frame, row, label);
    let [a, w, s, r] = widths;
    let [a, w, bar, s, r] = Layout::horizontal([a, w, Constraint::Fill(1), s, r]).areas(area);
    for (area, (_, _, text)) in [a, w, s, r].into_iter().zip(columns) {
        frame.render_widget(text, area);
    }
    frame.render_widget(share_bar(bar.width, share, due, FULL, colour), bar);
}

/// As many items as there is room for, the first ones first.
pub(crate) fn fitting(items: Vec<Span<'static>>, width: usize) -> Line<'static> {
    let mut line = Line::default();
    for item in items {
        let gap = if line.spans.is_empty() { "" } else { "   " };
        if !gap.is_empty() && line.width() + gap.len() + item.width() > width {
            break;
        }
        line.push_span(gap);
        line.push_span(item);
    }
    line
}

/// A bar of `share`, with a mark where `due` is; a share of `full` fills it.
pub(crate) fn share_bar(
    width: u16,
    share: f64,
    due: f64,
    full: f64,
    colour: Color,
) -> Line<'static> {
    let cells = f64::from(width) / full;
    let eighths = (share * cells * 8.0).round() as usize;
    let mark = (due * cells) as usize;
    let cell = |i: usize| {
        let filled = eighths.saturating_sub(8 * i).min(8);
        match i == mark {
            true if filled == 8 => "│".fg(Color::Black).bg(colour),
            true => "│".into(),
            false => EIGHTHS[filled].fg(colour),
        }
    };
    (0..usize::from(width)).map(cell).collect()
}
