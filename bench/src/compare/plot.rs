//! The figures as drawings: bars for the headline, lines along an axis.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;

use super::part::{FIXED, HALF, Load};
use super::summary::{Cell, Columns, Metric, P50, P99, P999, RATE, Results};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws a part as SVG.
///
/// # Errors
/// What the drawing library reports.
pub(crate) fn svg(results: &Results) -> Result<String> {
    let loads = results.loads();
    let Columns { costs, rates, .. } = results.columns;
    let only = || vec![(loads[0].to_owned(), costs[0])];
    match (results.setups().len(), loads.len()) {
        (1, 1) => panels(results, (900, 240), only(), bars),
        (1, 2..=4) => panels(results, (1400, 900), bar_panels(costs[0], rates[0]), bars),
        (1, _) => panels(results, (1400, 900), curve_panels(), curve),
        _ => panels(results, (900, 480), only(), line),
    }
}

/// What a panel shows: under which load ("" for all), which figure.
type Panel = (&'static str, Metric);

fn bar_panels(cost: Metric, rate: Metric) -> Vec<(String, Metric)> {
    let of = |load: Load, metric| (load.to_string(), metric);
    vec![
        of(Load::Full, cost),
        of(Load::Saturated, rate),
        of(FIXED, cost),
        of(HALF, P99),
    ]
}

fn curve_panels() -> Vec<Panel> {
    vec![("", RATE), ("", P50), ("", P99), ("", P999)]
}

fn panels<L: AsRef<str>>(
    results: &Results,
    size: (u32, u32),
    panels: Vec<(L, Metric)>,
    draw: impl Fn(&Area<'_>, &Results, &str, &Metric) -> Result<()>,
) -> Result<String> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        root.fill(&WHITE).map_err(drawing)?;
        let side = if panels.len() > 1 { 2 } else { 1 };
        let areas = root.split_evenly((side, side));
        for (area, (load, metric)) in areas.iter().zip(&panels) {
            draw(area, results, load.as_ref(), metric)?;
        }
        root.present().map_err(drawing)?;
    }
    Ok(text)
}

/// A bar for each contender: the median, with a line from least to greatest.
fn bars(area: &Area<'_>, results: &Results, load: &str, metric: &Metric) -> Result<()> {
    let cells: Vec<&Cell> = results
        .cells
        .iter()
        .filter(|cell| cell.load == load && cell.spread(metric).max > 0.0)
        .filter(|cell| is_drawn(cell, metric))
        .collect();
    let highest = highest(&cells, metric);
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{load}: {}", metric.label), ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(150)
        .build_cartesian_2d(
            0.0..highest * 1.05,
            (0..cells.len().saturating_sub(1)).into_segmented(),
        )
        .map_err(drawing)?;
    let last = cells.len().saturating_sub(1);
    let name = |segment: &SegmentValue<usize>| match segment {
        SegmentValue::CenterOf(index) => cells
            .get(last.saturating_sub(*index))
            .map_or_else(String::new, |cell| marked(cell)),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(cells.len())
        .y_label_formatter(&name)
        .x_label_formatter(&|figure| figure.to_string())
        .draw()
        .map_err(drawing)?;
    for (index, cell) in cells.iter().rev().enumerate() {
        let spread = cell.spread(metric);
        let (low, high) = (SegmentValue::Exact(index), SegmentValue::Exact(index + 1));
        let color = if cell.is_viaduct() {
            BLUE.mix(0.6)
        } else {
            BLACK.mix(0.3)
        };
        let mut bar = Rectangle::new([(0.0, low), (spread.median, high)], color.filled());
        bar.set_margin(5, 5, 0, 0);
        let middle = || SegmentValue::CenterOf(index);
        let whisker = PathElement::new([(spread.min, middle()), (spread.max, middle())], BLACK);
        chart.draw_series([bar]).map_err(drawing)?;
        chart.draw_series([whisker]).map_err(drawing)?;
    }
    Ok(())
}

/// A line for each contender over the setups, at equal distances.
fn line(area: &Area<'_>, results: &Results, load: &str, metric: &Metric) -> Result<()> {
    let setups = results.setups();
    let series = |contender: &str| -> Vec<(f64, &Cell)> {
        let cell = |(index, setup): (usize, &&str)| {
            Some((index as f64, results.cell(contender, setup, load)?))
        };
        let cells = setups.iter().enumerate().filter_map(cell);
        cells.filter(|(_, cell)| is_drawn(cell, metric)).collect()
    };
    let cells = results.cells.iter().filter(|cell| is_drawn(cell, metric));
    let highest = highest(&cells.collect::<Vec<_>>(), metric);
    let mut chart = ChartBuilder::on(area)
        .caption(
            format!("{}: {}", results.title, metric.label),
            ("sans-serif", 18),
        )
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(60)
        .build_cartesian_2d(-0.2..setups.len() as f64 - 0.3, 0.0..highest * 1.4)
        .map_err(drawing)?;
    let label = |at: &f64| {
        let whole = (at - at.round()).abs() < 1e-6 && *at > -0.1;
        let setup = whole.then(|| setups.get(at.round() as usize)).flatten();
        setup.map_or_else(String::new, |label| (*label).to_owned())
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(setups.len() * 2)
        .x_label_formatter(&label)
        .draw()
        .map_err(drawing)?;
    for (number, contender) in results.contenders().into_iter().enumerate() {
        let color = Palette99::pick(number).to_rgba();
        let points = series(contender);
        let line = points
            .iter()
            .map(|(at, cell)| (*at, cell.spread(metric).median));
        chart
            .draw_series(LineSeries::new(line, color.stroke_width(2)))
            .map_err(drawing)?
            .label(contender)
            .legend(key(color));
        let spread = |(at, cell): &(f64, &Cell)| {
            let spread = cell.spread(metric);
            PathElement::new([(*at, spread.min), (*at, spread.max)], color)
        };
        chart
            .draw_series(points.iter().map(spread))
            .map_err(drawing)?;
    }
    legend(&mut chart)
}

/// A curve for each contender over the messages offered; both scales are
/// logarithmic.
fn curve(area: &Area<'_>, results: &Results, _: &str, metric: &Metric) -> Result<()> {
    let offered = |cell: &Cell| {
        cell.rounds
            .iter()
            .filter_map(|round| round.offered)
            .sum::<f64>()
            / cell.rounds.len() as f64
    };
    let points = |contender: &str| -> Vec<(f64, f64)> {
        let own = results
            .cells
            .iter()
            .filter(|cell| cell.contender == contender && is_drawn(cell, metric));
        own.map(|cell| (offered(cell), cell.spread(metric).median))
            .filter(|&(offered, figure)| offered > 0.0 && figure > 0.0)
            .collect()
    };
    let contenders = results.contenders();
    let every: Vec<(f64, f64)> = contenders.iter().flat_map(|one| points(one)).collect();
    let range = |of: fn(&(f64, f64)) -> f64| {
        let low = every.iter().map(of).fold(f64::INFINITY, f64::min);
        let high = every.iter().map(of).fold(0.0, f64::max);
        if low < high {
            low * 0.8..high * 1.3
        } else {
            1.0..10.0
        }
    };
    let mut chart = ChartBuilder::on(area)
        .caption(
            format!("{}, by messages/s offered", metric.label),
            ("sans-serif", 18),
        )
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(70)
        .build_cartesian_2d(
            range(|point| point.0).log_scale(),
            range(|point| point.1).log_scale(),
        )
        .map_err(drawing)?;
    chart
        .configure_mesh()
        .x_label_formatter(&|figure| format!("{figure:.0}"))
        .y_label_formatter(&|figure| format!("{figure:.0}"))
        .draw()
        .map_err(drawing)?;
    for (number, contender) in contenders.into_iter().enumerate() {
        let color = Palette99::pick(number).to_rgba();
        let series = LineSeries::new(points(contender), color.stroke_width(2)).point_size(2);
        chart
            .draw_series(series)
            .map_err(drawing)?
            .label(contender)
            .legend(key(color));
    }
    legend(&mut chart)
}

/// Where nothing came, there is no cost of it; a scale up to that would have no end.
fn is_drawn(cell: &Cell, metric: &Metric) -> bool {
    cell.spread(metric).max.is_finite()
}

/// The greatest of these figures.
fn highest(cells: &[&Cell], metric: &Metric) -> f64 {
    let figures = cells.iter().map(|cell| cell.spread(metric).max);
    figures.fold(1e-9, f64::max)
}

/// The piece of line that stands for a contender in the legend.
fn key(color: RGBAColor) -> impl Fn((i32, i32)) -> PathElement<(i32, i32)> {
    move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2))
}

fn legend<'a, X, Y>(chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>) -> Result<()>
where
    X: Ranged + ValueFormatter<X::ValueType>,
    Y: Ranged + ValueFormatter<Y::ValueType>,
{
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.6))
        .draw()
        .map_err(drawing)
}

/// The contender's name, with a star where the generator was the limit.
fn marked(cell: &Cell) -> String {
    let star = if cell.limited() { "*" } else { "" };
    format!("{}{star}", cell.contender)
}

fn drawing(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::summary::{CPU, example};

    #[test]
    fn bars_name_every_contender_and_figure() {
        let of = |load| example(load, &[("kamailio", &[6.0]), ("viaduct-pad", &[1.5])]);
        let mut results = of(Load::Full);
        results.cells.extend(of(HALF).cells);
        let svg = svg(&results).expect("svg");
        assert!(svg.starts_with("<svg"));
        for text in ["kamailio", "viaduct-pad", CPU.label, P99.label] {
            assert!(svg.contains(text), "{text} is missing");
        }
    }

    #[test]
    fn lines_name_every_contender_and_setup() {
        let mut results = example(Load::Full, &[("kamailio", &[6.0]), ("viaduct-pad", &[1.5])]);
        let mut more = results.cells.clone();
        more.iter_mut()
            .for_each(|cell| cell.setup = "256".to_owned());
        results.cells.extend(more);
        // Of one of them nothing came.
        results.cells[0].rounds[0].cpu_us = f64::INFINITY;
        let svg = svg(&results).expect("svg");
        for text in ["kamailio", "viaduct-pad", "\n4\n", "\n256\n"] {
            assert!(svg.contains(text), "{text:?} is missing");
        }
    }

    #[test]
    fn curves_are_drawn_over_the_load_offered() {
        let mut results = example(Load::Full, &[("viaduct-pad", &[1.5])]);
        for rate in [1000.0, 2000.0, 4000.0, 8000.0] {
            let mut cell = results.cells[0].clone();
            cell.load = format!("{rate} messages/s");
            cell.rounds[0].offered = Some(rate);
            cell.rounds[0].rate = rate;
            results.cells.push(cell);
        }
        let svg = svg(&results).expect("svg");
        assert!(svg.contains("by messages/s offered"));
        assert!(svg.contains("viaduct-pad"));
    }
}
