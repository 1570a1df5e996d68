//! Draws a sweep as an SVG picture: throughput and the slow answers against load, one above the other. It uses no
//! font and no script of elsewhere, so the file shows wherever it lies.

use std::fmt::Write as _;

use super::report::{Point, Sweep};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 40.0;
/// Lines across a panel.
const TICKS: u32 = 4;

/// One panel: what it shows, and how a value becomes a height.
struct Panel {
    title: String,
    offset: f64,
    lines: Vec<Line>,
    logarithmic: bool,
}

struct Line {
    name: &'static str,
    colour: &'static str,
    values: Vec<f64>,
}

/// The picture of a sweep.
#[must_use]
pub fn draw(sweep: &Sweep) -> String {
    let loads: Vec<f64> = sweep.points.iter().map(|point| point.offered).collect();
    let line = |name, colour, value: fn(&Point) -> f64| Line {
        name,
        colour,
        values: sweep.points.iter().map(value).collect(),
    };
    let panels = [
        Panel {
            title: format!("{}: answers a second", sweep.scenario),
            offset: 0.0,
            lines: vec![
                line("due", "#999999", |point| point.offered),
                line("answered", "#1f6feb", |point| point.rate),
            ],
            logarithmic: false,
        },
        Panel {
            title: format!("{}: milliseconds, from when a request was due", sweep.scenario),
            offset: HEIGHT,
            lines: vec![
                line("p50", "#2da44e", |point| point.times.p50),
                line("p99", "#cf222e", |point| point.times.p99),
            ],
            logarithmic: true,
        },
    ];
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {0}" font-family="sans-serif" font-size="12"><rect width="{WIDTH}" height="{0}" fill="#ffffff"/>"##,
        HEIGHT * 2.0
    );
    for panel in &panels {
        panel.draw(&mut svg, &loads);
    }
    svg.push_str("</svg>\n");
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

impl Panel {
    fn bounds(&self) -> (f64, f64) {
        let values = || self.lines.iter().flat_map(|line| line.values.iter().copied());
        let most = values().fold(0.0, f64::max).max(1e-3);
        let least = if self.logarithmic { values().fold(most, f64::min).max(1e-3) } else { 0.0 };
        (least.min(most / 1.01), most)
    }

    /// Where in the panel a value lies, from 0 (bottom) to 1 (top).
    fn share(&self, value: f64) -> f64 {
        let (least, most) = self.bounds();
        let share = if self.logarithmic {
            (value.max(least) / least).ln() / (most / least).ln()
        } else {
            value / most
        };
        share.clamp(0.0, 1.0)
    }

    fn y(&self, share: f64) -> f64 {
        self.offset + HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }

    /// The value at a share of the height.
    fn value(&self, share: f64) -> f64 {
        let (least, most) = self.bounds();
        if self.logarithmic { least * (most / least).powf(share) } else { most * share }
    }

    fn draw(&self, svg: &mut String, loads: &[f64]) {
        let most_load = loads.iter().copied().fold(0.0, f64::max).max(1e-9);
        let x = |load: f64| LEFT + load / most_load * (WIDTH - LEFT - RIGHT);
        // Writing to a text cannot fail.
        let _ = write!(svg, r#"<text x="{LEFT}" y="{}">{}</text>"#, self.offset + 18.0, escaped(&self.title));
        for tick in 0..=TICKS {
            let share = f64::from(tick) / f64::from(TICKS);
            let (y, right) = (self.y(share), WIDTH - RIGHT);
            let _ = write!(
                svg,
                r##"<line x1="{LEFT}" y1="{y:.1}" x2="{right}" y2="{y:.1}" stroke="#dddddd"/><text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"##,
                LEFT - 6.0,
                y + 4.0,
                rounded(self.value(share))
            );
            let load = most_load * share;
            let _ = write!(
                svg,
                r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
                x(load),
                self.y(0.0) + 18.0,
                rounded(load)
            );
        }
        for (number, line) in (0_u32..).zip(&self.lines) {
            let points: Vec<String> = loads
                .iter()
                .zip(&line.values)
                .map(|(load, value)| format!("{:.1},{:.1}", x(*load), self.y(self.share(*value))))
                .collect();
            let _ = write!(
                svg,
                r#"<polyline points="{}" fill="none" stroke="{}" stroke-width="2"/><text x="{:.1}" y="{:.1}" fill="{}">{}</text>"#,
                points.join(" "),
                line.colour,
                WIDTH - RIGHT - 150.0 + f64::from(number) * 75.0,
                self.offset + 18.0,
                line.colour,
                escaped(line.name)
            );
        }
    }
}

fn rounded(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::super::report::Times;
    use super::*;

    fn sweep(rates: &[f64]) -> Sweep {
        let point = |rate: &f64| Point {
            offered: *rate,
            rate: *rate,
            times: Times { p50: 0.0, p99: rate / 10.0, p999: 1.0, max: 1.0 },
        };
        Sweep { scenario: "a<b".to_owned(), points: rates.iter().map(point).collect() }
    }

    /// Every element that is opened is closed, in order.
    fn is_well_formed(svg: &str) -> bool {
        let mut open = Vec::new();
        for tag in svg.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()) {
            if let Some(name) = tag.strip_prefix('/') {
                if open.pop() != Some(name) {
                    return false;
                }
            } else if !tag.ends_with('/') {
                open.push(tag.split(' ').next().unwrap());
            }
        }
        open.is_empty()
    }

    #[test]
    fn the_picture_is_well_formed_whatever_the_figures() {
        for rates in [&[][..], &[0.0], &[5.0], &[10.0, 20.0, 30.0, 1e9]] {
            let svg = draw(&sweep(rates));
            assert!(is_well_formed(&svg), "{svg}");
            assert!(svg.contains("a&lt;b") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
        assert_eq!(draw(&sweep(&[1.0, 2.0])).matches("<polyline").count(), 4);
    }
}
