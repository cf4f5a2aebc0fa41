//! The charts as one picture, an SVG with a panel for each that has lines to draw.

use std::path::Path;

use anyhow::{Context, Result};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::series::{Chart, Line, grouped};

/// Writes the picture.
///
/// # Errors
///
/// If the file cannot be written.
pub(crate) fn draw(path: &Path, charts: &[Chart]) -> Result<()> {
    let drawn: Vec<&Chart> = charts
        .iter()
        .filter(|chart| lines(chart).count() > 0)
        .collect();
    let rows = drawn.len().div_ceil(COLUMNS);
    let height = PANEL.1 * u32::try_from(rows)?;
    let width = PANEL.0 * u32::try_from(COLUMNS)?;
    let picture = SVGBackend::new(path, (width, height)).into_drawing_area();
    picture.fill(&WHITE)?;
    for (panel, chart) in picture.split_evenly((rows, COLUMNS)).iter().zip(drawn) {
        draw_panel(panel, chart)?;
    }
    let written = picture.present();
    written.with_context(|| format!("{} cannot be written", path.display()))
}

fn draw_panel(panel: &DrawingArea<SVGBackend<'_>, Shift>, chart: &Chart) -> Result<()> {
    let points = || lines(chart).flat_map(|line| line.points.iter());
    let least_size = points().map(|(size, _)| *size).min().unwrap_or(1) as f64;
    let most_size = points().map(|(size, _)| *size).max().unwrap_or(1) as f64;
    let most_cost = points().map(|(_, cost)| *cost).fold(0.0, f64::max);
    let mut axes = ChartBuilder::on(panel)
        .caption(&chart.title, (FONT, 20))
        .margin(12)
        // Half of the last label is beyond the axis.
        .margin_right(40)
        .x_label_area_size(44)
        .y_label_area_size(60)
        .build_cartesian_2d(
            (least_size..most_size).log_scale(),
            0.0..most_cost * HEADROOM,
        )?;
    axes.configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(chart.size)
        .y_desc(chart.unit)
        .x_label_formatter(&label)
        .y_label_formatter(&label)
        .label_style((FONT, 14))
        .axis_desc_style((FONT, 15))
        .draw()?;
    for (index, line) in lines(chart).enumerate() {
        let color = COLORS[index % COLORS.len()];
        let points = line.points.iter().map(|(size, cost)| (*size as f64, *cost));
        axes.draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(3)));
    }
    axes.configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .label_font((FONT, 14))
        .draw()?;
    Ok(())
}

fn lines(chart: &Chart) -> impl Iterator<Item = &Line> {
    chart.lines.iter().filter(|line| line.plotted)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "axes begin at zero and end at a million"
)]
fn label(value: &f64) -> String {
    grouped(value.round() as usize)
}

/// Two panels beside each other, as wide as a page shows them.
const COLUMNS: usize = 2;

/// Width and height of a panel, in pixels.
const PANEL: (u32, u32) = (560, 400);

/// Room above the lines for their names.
const HEADROOM: f64 = 1.5;

const FONT: &str = "sans-serif";

/// Told apart by those who do not see red and green, too (the palette of Okabe and Ito).
const COLORS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
];
