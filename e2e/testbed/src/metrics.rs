/// The text of a `/metrics` endpoint, with just enough parsing to count.
#[derive(Clone, Debug)]
pub struct Metrics(String);

impl Metrics {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// The sum of all samples of a metric whose labels include all of `labels`; zero without a sample.
    ///
    /// `metrics.sum("apiserver_request_total", &[("resource", "secrets"), ("verb", "LIST")])`
    pub fn sum(&self, metric: &str, labels: &[(&str, &str)]) -> f64 {
        self.samples(metric, labels).map(|(_, value)| value).sum()
    }

    /// The values of one label in all samples of a metric, in the order of the text.
    pub fn label_values(&self, metric: &str, label: &str) -> Vec<String> {
        // Another label may end in the same word.
        let starts = ["{", ","].map(|before| format!("{before}{label}=\""));
        self.samples(metric, &[])
            .filter_map(|(labels, _)| {
                let at = starts
                    .iter()
                    .find_map(|start| Some(labels.find(start)? + start.len()))?;
                labels[at..].split('"').next().map(ToString::to_string)
            })
            .collect()
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.0
    }

    fn samples<'a>(&'a self, metric: &'a str, wanted: &'a [(&str, &str)]) -> impl Iterator<Item = (&'a str, f64)> + 'a {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(metric)?;
            if !rest.starts_with(['{', ' ']) {
                return None;
            }
            let (labels, value) = rest.rsplit_once(' ')?;
            let all = wanted.iter().all(|(name, value)| {
                let pair = format!("{name}=\"{value}\"");
                labels.contains(&format!("{{{pair}")) || labels.contains(&format!(",{pair}"))
            });
            all.then_some((labels, value.parse().ok()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn sums_the_samples_that_carry_the_labels() {
        let metrics = Metrics::new(
            "# TYPE requests counter\n\
             requests{verb=\"LIST\",resource=\"secrets\"} 2\n\
             requests{verb=\"GET\",resource=\"secrets\"} 3\n\
             requests{verb=\"GET\",subresource=\"secrets\"} 7\n\
             requests_other{resource=\"secrets\"} 5\n"
                .to_string(),
        );
        assert!((metrics.sum("requests", &[("resource", "secrets")]) - 5.0).abs() < f64::EPSILON);
        assert!((metrics.sum("requests", &[]) - 12.0).abs() < f64::EPSILON);
        assert_eq!(metrics.label_values("requests", "verb"), ["LIST", "GET", "GET"]);
    }
}
