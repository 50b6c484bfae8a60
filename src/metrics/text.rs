//! Prometheus text: families, samples, histograms.

use super::histogram::Buckets;
use std::fmt::{Display, Write};
use std::time::Duration;

/// Label names and values.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

/// The text so far.
#[derive(Debug, Default)]
pub(super) struct Text {
    out: String,
}

/// What kind of numbers a family has.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Text {
    /// Begins a family.
    pub(super) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A series of it.
    pub(super) fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        self.line(name, "", labels, None, value);
    }

    /// A series of a family of histograms.
    pub(super) fn histogram<const N: usize>(&mut self, name: &str, labels: Labels<'_>, seen: &Buckets<N>) {
        for (bound, count) in seen.cumulative() {
            self.line(name, "_bucket", labels, Some(bound), count);
        }
        self.line(name, "_bucket", labels, Some("+Inf"), seen.count());
        self.line(name, "_sum", labels, None, Exact(seen.sum()));
        self.line(name, "_count", labels, None, seen.count());
    }

    fn line(&mut self, name: &str, suffix: &str, labels: Labels<'_>, le: Option<&str>, value: impl Display) {
        self.out.push_str(name);
        self.out.push_str(suffix);
        let mut before = '{';
        for (label, value) in labels.iter().copied().chain(le.map(|bound| ("le", bound))) {
            self.out.push(before);
            self.out.push_str(label);
            self.out.push_str("=\"");
            self.escaped(value);
            self.out.push('"');
            before = ',';
        }
        let _ = writeln!(self.out, "{} {value}", if before == ',' { "}" } else { "" });
    }

    fn escaped(&mut self, value: &str) {
        for char in value.chars() {
            match char {
                '\\' => self.out.push_str("\\\\"),
                '"' => self.out.push_str("\\\""),
                '\n' => self.out.push_str("\\n"),
                other => self.out.push(other),
            }
        }
    }

    /// The text.
    pub(super) fn finish(self) -> String {
        self.out
    }
}

/// Seconds with all six decimals: exact.
struct Exact(Duration);

impl Display for Exact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:06}", self.0.as_secs(), self.0.subsec_micros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::histogram::Fine;

    #[test]
    fn values_are_escaped_and_series_without_labels_have_no_braces() {
        let mut text = Text::default();
        text.family("a_total", Kind::Counter, "A.");
        text.sample("a_total", &[], 1);
        text.sample("a_total", &[("x", "q\"\\\n"), ("y", "ü")], 2);
        assert_eq!(
            text.finish(),
            "# HELP a_total A.\n# TYPE a_total counter\na_total 1\na_total{x=\"q\\\"\\\\\\n\",y=\"ü\"} 2\n"
        );
    }

    #[test]
    fn a_histogram_ends_with_infinity_sum_and_count() {
        let mut seen = Fine::default();
        [60, 20_000_000].into_iter().for_each(|micros| seen.observe(micros));
        let mut text = Text::default();
        text.histogram("h_seconds", &[("m", "a")], &seen);
        let text = text.finish();
        assert!(text.starts_with(
            "h_seconds_bucket{m=\"a\",le=\"0.00005\"} 0\nh_seconds_bucket{m=\"a\",le=\"0.0001\"} 1\n"
        ));
        let end = "h_seconds_bucket{m=\"a\",le=\"+Inf\"} 2\nh_seconds_sum{m=\"a\"} 20.000060\nh_seconds_count{m=\"a\"} 2\n";
        assert!(text.ends_with(end), "{text}");
    }
}
