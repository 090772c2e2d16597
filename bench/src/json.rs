//! Figures as JSON, with every sample and what the machine was: for comparing runs. Pure but for what it reads of the
//! machine.

use std::fs;

use serde_json::{json, Value};

use crate::figure::{Budget, Figure, Samples, Spread};

/// All figures of a run.
pub fn document(parts: &[(&'static str, Vec<Figure>)]) -> Value {
    let figures: Vec<Value> =
        parts.iter().flat_map(|(part, figures)| figures.iter().map(|each| figure(part, each))).collect();
    json!({"machine": machine(), "figures": figures})
}

fn figure(part: &str, figure: &Figure) -> Value {
    let (ours, floor): (Vec<f64>, Vec<f64>) = match &figure.samples {
        Samples::Alone(samples) => (samples.clone(), Vec::new()),
        Samples::Beside(turns) => turns.iter().map(|turn| (turn.ours, turn.floor)).unzip(),
    };
    json!({
        "part": part,
        "what": figure.what,
        "unit": figure.unit.name(),
        "ours": {"spread": spread(figure.ours()), "samples": ours},
        "floor": figure.floor().map(|beside| json!({"spread": spread(beside), "samples": floor})),
        "ratio": figure.ratio().map(spread),
        "budget": figure.budget.map(|budget| match budget {
            Budget::AtMost(most) => json!({"at_most": most}),
            Budget::AtLeast(least) => json!({"at_least": least}),
        }),
        "met": figure.is_met(),
    })
}

fn spread(spread: Spread) -> Value {
    json!({"least": spread.least, "median": spread.median, "most": spread.most})
}

/// What figures depend on besides the code.
fn machine() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    json!({
        "processor": model.map(|(_, name)| name),
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load_average": read("/proc/loadavg").trim(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::{Turn, Unit};

    #[test]
    fn a_figure_keeps_its_samples_and_its_verdict() {
        let turns = vec![Turn { floor: 2.0, ours: 3.0 }, Turn { floor: 4.0, ours: 4.0 }];
        let create = Figure::beside("create", Unit::Milliseconds, turns).within(Budget::AtMost(1.1));
        let document = document(&[("runc", vec![create])]);
        let figure = &document["figures"][0];
        assert_eq!(figure["ours"]["samples"], json!([3.0, 4.0]));
        assert_eq!(figure["floor"]["samples"], json!([2.0, 4.0]));
        assert_eq!(figure["ratio"], json!({"least": 1.0, "median": 1.5, "most": 1.5}));
        assert_eq!((&figure["met"], &figure["part"]), (&json!(false), &json!("runc")));
    }
}
