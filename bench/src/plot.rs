//! Cost against size as SVG: both axes logarithmic, legible on light and on dark ground, no script and no font of its own.

use std::fmt::Write as _;

use crate::figures::Measure;
use crate::measures as m;
use crate::report::Report;

/// One of the pictures that stand side by side.
struct Panel {
    title: &'static str,
    lines: &'static [Line],
}

struct Line {
    measure: Measure,
    label: &'static str,
    /// Of a middle lightness, so that it is seen on any ground.
    colour: &'static str,
    /// The 99th percentile, not the median.
    p99: bool,
}

const fn line(measure: Measure, label: &'static str, colour: &'static str, p99: bool) -> Line {
    Line { measure, label, colour, p99 }
}

const BLUE: &str = "#3b82c4";
const ORANGE: &str = "#d9822b";
const GREEN: &str = "#3f9f5f";
const GREY: &str = "#808080";

const PANELS: [Panel; 2] = [
    Panel {
        title: "CPU of the control plane, seconds",
        lines: &[
            line(m::CONNECT_CPU, "connect all", BLUE, false),
            line(m::POLICY_CPU, "policy change", ORANGE, false),
            line(m::ENDPOINT_CPU, "endpoint change", GREEN, false),
        ],
    },
    Panel {
        title: "change to last ACK, p99 in ms",
        lines: &[
            line(m::POLICY, "policy change", ORANGE, true),
            line(m::ROUTE, "route change", BLUE, true),
            line(m::ENDPOINT, "endpoint change", GREEN, true),
        ],
    },
];

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 300.0;
/// Room for the labels of axes and lines.
const LEFT: f64 = 56.0;
const RIGHT: f64 = 104.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 44.0;

/// A logarithmic axis from one power of ten, or near it, to another.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min).log10().floor();
        let high = values.fold(f64::NEG_INFINITY, f64::max).log10().ceil();
        Self { low, high: if high > low { high } else { low + 1.0 }, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        self.from + (value.log10() - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// The powers of ten in it.
    fn ticks(&self) -> impl Iterator<Item = f64> {
        let (low, high) = (self.low, self.high);
        std::iter::successors(Some(low), move |power| Some(power + 1.0).filter(|next| *next <= high))
            .map(|power| 10f64.powf(power))
    }
}

/// The cost of a scenario against its sizes; fails if the report has fewer than two sizes of it.
pub fn plot(report: &Report, scenario: &str) -> anyhow::Result<String> {
    let sizes = report.runs.iter().filter(|run| run.scenario == scenario).count();
    anyhow::ensure!(sizes > 1, "the report has {sizes} sizes of {scenario}: a plot needs two");
    let (width, height) = (2.0 * WIDTH, HEIGHT + 20.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\" fill=\"{GREY}\">\n<title>Cost against the number of dataplanes ({scenario})</title>\n"
    );
    for (number, panel) in PANELS.iter().enumerate() {
        let offset = if number == 0 { 0.0 } else { WIDTH };
        panel.draw(report, scenario, offset, &mut svg);
    }
    let machine = escaped(&report.machine.to_string());
    let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"{}\" font-size=\"10\">{machine}</text>", HEIGHT + 8.0);
    svg += "</svg>\n";
    Ok(svg)
}

impl Panel {
    fn draw(&self, report: &Report, scenario: &str, offset: f64, svg: &mut String) {
        let lines: Vec<(&Line, Vec<(f64, f64)>)> =
            self.lines.iter().map(|line| (line, line.points(report, scenario))).collect();
        let points = lines.iter().flat_map(|(_, points)| points);
        let (left, right) = (offset + LEFT, offset + WIDTH - RIGHT);
        let (top, bottom) = (TOP, HEIGHT - BOTTOM);
        if points.clone().next().is_none() {
            return;
        }
        let x = Axis::over(points.clone().map(|point| point.0), left, right);
        let y = Axis::over(points.map(|point| point.1), bottom, top);
        let _ = writeln!(
            svg,
            "<text x=\"{left}\" y=\"{}\" font-weight=\"bold\">{}</text>",
            top - 14.0,
            self.title
        );
        for tick in x.ticks() {
            let at = x.at(tick);
            let _ = writeln!(svg, "{}", grid(at, top, at, bottom));
            let text = power(tick);
            let below = bottom + 16.0;
            let _ = writeln!(svg, "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{text}</text>");
        }
        for tick in y.ticks() {
            let at = y.at(tick);
            let _ = writeln!(svg, "{}", grid(left, at, right, at));
            let (x, y, text) = (left - 6.0, at + 4.0, power(tick));
            let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{text}</text>");
        }
        let (middle, below) = (f64::midpoint(left, right), bottom + 32.0);
        let _ = writeln!(svg, "<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">dataplanes</text>");
        let mut labels: Vec<f64> = Vec::new();
        for (line, points) in &lines {
            let path: Vec<String> =
                points.iter().map(|point| format!("{:.1},{:.1}", x.at(point.0), y.at(point.1))).collect();
            let colour = line.colour;
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                path.join(" ")
            );
            for at in &path {
                let (x, y) = at.split_once(',').unwrap_or_default();
                let _ = writeln!(svg, "<circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"{colour}\"/>");
            }
            let Some(last) = points.last() else { continue };
            let label = apart(y.at(last.1) + 4.0, &labels);
            labels.push(label);
            let (at, text) = (x.at(last.0) + 8.0, line.label);
            let _ = writeln!(svg, "<text x=\"{at:.1}\" y=\"{label:.1}\" fill=\"{colour}\">{text}</text>");
        }
    }
}

impl Line {
    /// By size; what is 0 has no place on a logarithmic axis.
    fn points(&self, report: &Report, scenario: &str) -> Vec<(f64, f64)> {
        let runs = report.runs.iter().filter(|run| run.scenario == scenario);
        let mut points: Vec<(f64, f64)> = runs
            .filter_map(|run| {
                let figure = run.figures.iter().find(|figure| figure.name == self.measure.name)?;
                let value = if self.p99 { figure.p99 } else { figure.median };
                Some((crate::figures::number(run.size as u64), value))
            })
            .filter(|point| point.0 > 0.0 && point.1 > 0.0)
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    }
}

/// The nearest place below that no other label takes.
fn apart(mut wished: f64, taken: &[f64]) -> f64 {
    /// Of a line of text.
    const ROOM: f64 = 13.0;
    while let Some(near) = taken.iter().find(|other| (wished - **other).abs() < ROOM) {
        wished = near + ROOM;
    }
    wished
}

fn grid(x1: f64, y1: f64, x2: f64, y2: f64) -> String {
    format!(
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{GREY}\" stroke-opacity=\"0.3\"/>"
    )
}

/// A power of ten as people write it.
fn power(value: f64) -> String {
    if value < 1.0 {
        return value.to_string();
    }
    let digits = format!("{value:.0}");
    match digits.len() {
        0..=3 => digits,
        length => format!("{} {}", &digits[..length - 3], &digits[length - 3..]),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Sheet;
    use crate::machine;
    use crate::report::Run;

    fn report(sizes: &[usize]) -> Report {
        let run = |&size: &usize| {
            let mut sheet = Sheet::default();
            sheet.one(m::CONNECT_CPU, crate::figures::number(size as u64) / 1000.0);
            sheet.one(m::ENDPOINT_CPU, 0.0);
            sheet.add(m::POLICY, [1.0, 20.0]);
            Run { scenario: "ten".into(), size, counts: "dataplanes".into(), figures: sheet.figures() }
        };
        Report { machine: machine::describe(), runs: sizes.iter().map(run).collect() }
    }

    #[test]
    fn a_line_runs_through_the_sizes_and_what_is_zero_is_left_out() {
        let svg = plot(&report(&[100, 1_000]), "ten").unwrap();
        assert_eq!(svg.matches("<polyline").count(), 6, "{svg}");
        assert_eq!(svg.matches("<circle").count(), 4, "connect and policy, two sizes each: {svg}");
        assert!(svg.contains(">1 000</text>") && svg.contains(">0.1</text>"), "{svg}");
    }

    #[test]
    fn a_plot_needs_two_sizes() {
        let error = plot(&report(&[100]), "ten").unwrap_err().to_string();
        assert_eq!(error, "the report has 1 sizes of ten: a plot needs two");
    }

    #[test]
    fn ten_times_as_much_is_as_far_everywhere() {
        let axis = Axis::over([3.0, 2_000.0].into_iter(), 0.0, 400.0);
        assert_eq!(
            (axis.at(1.0).round(), axis.at(10.0).round(), axis.at(10_000.0).round()),
            (0.0, 100.0, 400.0)
        );
        assert_eq!(axis.ticks().count(), 5);
    }

    #[test]
    fn labels_do_not_cover_each_other() {
        assert!((apart(10.0, &[]) - 10.0).abs() < 1e-9);
        assert!((apart(10.0, &[9.0, 22.0]) - 35.0).abs() < 1e-9);
    }
}
