//! The figures as bars: median, with a line from the least to the greatest.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::summary::{HALF_CPU, HALF_P99, Metric, Results, SATURATED_CPU, SATURATED_RATE};

const SIZE: (u32, u32) = (1200, 800);

/// Draws the comparison as SVG.
///
/// # Errors
/// What the drawing library reports.
pub(crate) fn svg(all: &[Results]) -> Result<String> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(drawing)?;
        let areas = root.split_evenly((2, 2));
        let metrics = [&SATURATED_CPU, &SATURATED_RATE, &HALF_CPU, &HALF_P99];
        for (area, metric) in areas.iter().zip(metrics) {
            bars(area, metric, all)?;
        }
        root.present().map_err(drawing)?;
    }
    Ok(text)
}

fn bars(area: &DrawingArea<SVGBackend<'_>, Shift>, metric: &Metric, all: &[Results]) -> Result<()> {
    let spreads: Vec<_> = all.iter().map(|results| results.spread(metric)).collect();
    let highest = spreads.iter().map(|spread| spread.max).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(metric.label, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(70)
        .build_cartesian_2d(
            (0..all.len().saturating_sub(1)).into_segmented(),
            0.0..highest.max(1e-9) * 1.1,
        )
        .map_err(drawing)?;
    let name = |segment: &SegmentValue<usize>| match segment {
        SegmentValue::CenterOf(index) => all
            .get(*index)
            .map_or_else(String::new, |one| one.name.clone()),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_label_formatter(&name)
        .y_label_formatter(&|figure| figure.to_string())
        .draw()
        .map_err(drawing)?;
    for (index, spread) in spreads.iter().enumerate() {
        let (left, right) = (SegmentValue::Exact(index), SegmentValue::Exact(index + 1));
        let mut bar = Rectangle::new(
            [(left, 0.0), (right, spread.median)],
            BLUE.mix(0.5).filled(),
        );
        bar.set_margin(0, 0, 20, 20);
        let middle = || SegmentValue::CenterOf(index);
        let whisker = PathElement::new([(middle(), spread.min), (middle(), spread.max)], BLACK);
        chart.draw_series([bar]).map_err(drawing)?;
        chart.draw_series([whisker]).map_err(drawing)?;
    }
    Ok(())
}

fn drawing(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::summary::Sample;

    #[test]
    fn every_contender_and_figure_is_named() {
        let one = |name: &str| Results {
            name: name.to_owned(),
            version: String::new(),
            rounds: vec![Sample {
                saturated_cpu_us: 3.0,
                ..Sample::default()
            }],
        };
        let svg = svg(&[one("kamailio"), one("viaduct")]).expect("a drawing");
        assert!(svg.starts_with("<svg"));
        for text in ["kamailio", "viaduct", SATURATED_CPU.label, HALF_P99.label] {
            assert!(svg.contains(text), "{text} is missing");
        }
    }
}
