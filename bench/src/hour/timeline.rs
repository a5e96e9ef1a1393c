//! The hour as a drawing: calls a second by the destination that took them,
//! one upon the other, and the operator's steps.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::findings::Found;
use crate::sip::SECOND;

/// Draws it as SVG.
///
/// # Errors
/// What the drawing library reports.
pub(super) fn svg(found: &Found) -> Result<String> {
    let mut text = String::new();
    draw(found, &mut text).map_err(|error| anyhow!("cannot draw: {error}"))?;
    Ok(text)
}

fn draw(found: &Found, text: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let counts = counts(found);
    let sums = counts.iter().map(|second| second.iter().sum::<u32>());
    let highest = sums.max().unwrap_or(0).max(1);
    let root = SVGBackend::with_string(text, (1400, 500)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption("Calls a second by destination", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(50)
        // Room for the numbers of the steps above, and on the right for the legend.
        .build_cartesian_2d(0.0..1.1 * counts.len() as f64, 0..highest * 5 / 4)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_desc("seconds; the steps are listed below by number")
        .x_label_formatter(&|second| format!("{second:.0}"))
        .draw()?;
    for (number, address) in found.story.farm.iter().enumerate() {
        let color = Palette99::pick(number).to_rgba();
        let bar = |(second, counts): (usize, &Vec<u32>)| {
            let low: u32 = counts[..number].iter().sum();
            let corner = (second as f64, low);
            Rectangle::new(
                [corner, (second as f64 + 1.0, low + counts[number])],
                color.mix(0.7).filled(),
            )
        };
        chart
            .draw_series(counts.iter().enumerate().map(bar))?
            .label(address.ip().to_string())
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 16, y + 5)], color.filled()));
    }
    for (number, step) in (1..).zip(&found.story.steps) {
        let at = step.at as f64 / SECOND as f64;
        // Neighbours may be close.
        let height = highest * (24 - number % 4) / 20;
        let line = PathElement::new([(at, 0), (at, height)], BLACK.mix(0.6));
        let label = Text::new(format!("{number}"), (at, height), ("sans-serif", 14));
        chart.draw_series([line])?;
        chart.draw_series([label])?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    root.present()?;
    Ok(())
}

/// Calls that each destination took, second by second.
fn counts(found: &Found) -> Vec<Vec<u32>> {
    let farm = &found.story.farm;
    let mut counts: Vec<Vec<u32>> = Vec::new();
    for record in &found.records {
        let second = (record.started / SECOND) as usize;
        counts.resize(counts.len().max(second + 1), vec![0; farm.len()]);
        let taker = farm.iter().position(|one| Some(*one) == record.home);
        if let Some(taker) = taker {
            counts[second][taker] += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hour::findings::example;
    use crate::hour::operator::Step;

    #[test]
    fn the_drawing_names_destinations_and_numbers_steps() {
        let mut found = example(20);
        found.story.steps = vec![Step {
            at: 7 * SECOND,
            what: "drain".to_owned(),
        }];
        assert_eq!(counts(&found)[2..4], [[1, 0], [0, 1]]);
        let svg = svg(&found).expect("svg");
        for text in ["127.1.0.1", "127.1.0.2", "\n1\n"] {
            assert!(svg.contains(text), "{text:?} is missing");
        }
    }
}
