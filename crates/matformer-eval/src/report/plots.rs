//! Plots as SVG text. Colors are names in disguise: the page's style sheet gives each its value,
//! one for light and one for dark.

use std::ops::Range;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::format;
use crate::{Error, Result};

/// Pixels of a plot; the page scales it to its own width.
const SIZE: (u32, u32) = (1600, 860);
/// Font sizes in these pixels.
const TICKS: u32 = 30;
const TITLES: u32 = 32;
/// Series with a color of their own.
pub(super) const COLORS: u8 = 8;

/// What something is drawn in. The template's style sheet knows the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    /// Text and axes.
    Text,
    /// Lines behind the data.
    Grid,
    /// Data of less weight.
    Muted,
    /// Data of a granularity, by its place.
    Series(usize),
}

impl Ink {
    fn color(self) -> RGBColor {
        // Decimal digits only, so that upper and lower case do not matter.
        match self {
            Self::Text => RGBColor(0x01, 0x01, 0x01),
            Self::Grid => RGBColor(0x02, 0x02, 0x02),
            Self::Muted => RGBColor(0x03, 0x03, 0x03),
            Self::Series(i) => RGBColor(0x10, 0x10, (i % usize::from(COLORS)) as u8),
        }
    }
}

/// A place in the coordinates of the data.
pub(super) type Point = (f64, f64);

/// Something to draw.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Mark {
    /// A line through points.
    Line(Ink, Vec<Point>),
    /// A disc of a radius in pixels.
    Dot(Ink, Point, u32),
    /// Text above a point.
    Label(Point, String),
    /// A vertical bar around a point: half its length in the data's unit.
    ErrorBar(Ink, Point, f64),
}

/// The frame of a plot.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Frame {
    /// What errors call the plot.
    pub name: &'static str,
    pub x: Range<f64>,
    pub y: Range<f64>,
    pub x_title: &'static str,
    pub y_title: &'static str,
}

/// The least range that holds all values with some room; `0..1` without values.
pub(super) fn range(values: impl IntoIterator<Item = f64>, room: f64) -> Range<f64> {
    let finite = values.into_iter().filter(|value| value.is_finite());
    let least = |all: Range<f64>, value: f64| all.start.min(value)..all.end.max(value);
    let Range { start, end } = finite.fold(f64::INFINITY..f64::NEG_INFINITY, least);
    if start > end {
        return 0.0..1.0;
    }
    let room = match end - start {
        0.0 => 0.5 * start.abs().max(1.0),
        span => room * span,
    };
    start - room..end + room
}

/// Draws marks, later ones over earlier ones.
///
/// # Errors
/// [`Error::Plot`].
pub(super) fn draw(frame: &Frame, marks: &[Mark]) -> Result<String> {
    let mut svg = String::new();
    draw_into(&mut svg, frame, marks)
        .map_err(|error| Error::Plot { plot: frame.name, message: error.to_string() })?;
    Ok(svg)
}

fn draw_into(
    svg: &mut String,
    frame: &Frame,
    marks: &[Mark],
) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let mut chart = ChartBuilder::on(&root)
        .margin(20)
        .x_label_area_size(100)
        .y_label_area_size(140)
        .build_cartesian_2d(frame.x.clone(), frame.y.clone())?;
    let text = Ink::Text.color();
    let places = format::decimals(frame.y.end - frame.y.start);
    chart
        .configure_mesh()
        .x_labels(8)
        .y_labels(8)
        .light_line_style(TRANSPARENT)
        .bold_line_style(Ink::Grid.color().stroke_width(2))
        .axis_style(Ink::Muted.color().stroke_width(2))
        .label_style(("sans-serif", TICKS, &text))
        .axis_desc_style(("sans-serif", TITLES, &text))
        .x_label_formatter(&|x| format::short(*x))
        .y_label_formatter(&|y| format!("{y:.places$}"))
        .x_desc(frame.x_title)
        .y_desc(frame.y_title)
        .draw()?;
    for mark in marks {
        match mark {
            Mark::Line(ink, points) => {
                let style = ink.color().mix(0.6).stroke_width(4);
                chart.draw_series([PathElement::new(points.clone(), style)])?;
            }
            Mark::ErrorBar(ink, (x, y), half) => {
                let style = ink.color().stroke_width(3);
                let ends = vec![(*x, y - half), (*x, y + half)];
                chart.draw_series([PathElement::new(ends, style)])?;
            }
            Mark::Dot(ink, at, radius) => {
                chart.draw_series([Circle::new(*at, *radius, ink.color().filled())])?;
            }
            Mark::Label(at, label) => {
                let above = Pos::new(HPos::Center, VPos::Bottom);
                let style = ("sans-serif", 40, FontStyle::Bold)
                    .into_text_style(&root)
                    .color(&text)
                    .pos(above);
                chart.draw_series([Text::new(label.clone(), *at, style)])?;
            }
        }
    }
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(x: Range<f64>, y: Range<f64>) -> Frame {
        Frame { name: "test", x, y, x_title: "x & more", y_title: "y" }
    }

    #[test]
    fn every_mark_is_drawn_in_its_ink() {
        let marks = [
            Mark::Line(Ink::Muted, vec![(1.0, 1.0), (2.0, 2.0)]),
            Mark::ErrorBar(Ink::Series(1), (1.0, 1.0), 0.2),
            Mark::Dot(Ink::Series(1), (1.0, 1.0), 10),
            Mark::Label((1.0, 1.2), "<b>S".into()),
            Mark::Dot(Ink::Series(10), (2.0, 2.0), 5),
        ];
        let svg = draw(&frame(0.0..3.0, 0.5..2.5), &marks).unwrap();
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains("fill=\"#101001\"") && svg.contains("fill=\"#101002\""));
        assert!(svg.contains("&lt;b&gt;S") && svg.contains("x &amp; more"));
        assert!(!svg.contains("<b>"));
        let tags = |name| svg.matches(name).count();
        assert_eq!(tags("<text"), tags("</text>"));
    }

    #[test]
    fn ranges_hold_all_values() {
        assert_eq!(range([1.0, 3.0], 0.25), 0.5..3.5);
        assert_eq!(range([f64::NAN, 4.0, f64::INFINITY], 0.1), 2.0..6.0);
        assert_eq!(range([0.0], 0.1), -0.5..0.5);
        assert_eq!(range([], 0.1), 0.0..1.0);
    }

    #[test]
    fn odd_ranges_are_drawn_too() {
        for y in [0.0..1e-9, -1e12..1e12, 3.0..3.0000001] {
            assert!(draw(&frame(0.0..1e15, y.clone()), &[]).is_ok(), "{y:?}");
        }
    }
}
