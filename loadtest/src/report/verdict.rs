//! What kept the figures from being higher, and what they should not be trusted for.
//!
//! Several may hold at once. All of it is decided from percentages, and nothing is measured here.

use serde::Serialize;

/// One judgement; in the JSON it is its sentence.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(into = "String")]
pub(crate) struct Verdict {
    pub(crate) kind: Kind,
    pub(crate) sentence: String,
}

impl From<Verdict> for String {
    fn from(verdict: Verdict) -> Self {
        verdict.sentence
    }
}

/// What is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Something about the run changed while it lasted.
    Drift,
    /// The figures are this program's, not the server's.
    GeneratorBottleneck,
    /// Neither had all its time to do.
    NoBottleneck,
    /// Others took the machine.
    Noisy,
    /// The server could not have done more.
    ServerBottleneck,
    /// Nothing was measured, or not the server.
    Unknown,
}

/// What is judged by; all but the first are unknown if they were not measured.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Of one core, by the busiest thread of the generator: one that is out of time is a bottleneck,
    /// whatever the others have left.
    pub(crate) driver_percent: f64,
    /// Of what the server can use: its busiest thread of a core, or all of it of the CPUs that it
    /// may run on, whichever is more.
    pub(crate) server_busy_percent: Option<f64>,
    /// Of the whole machine, by neither.
    pub(crate) others_percent: Option<f64>,
}

/// Of a core of which this much is used there is no more to get: the rest is what the scheduler
/// gives to interrupts and to others.
const BUSY_PERCENT: f64 = 90.0;

/// Less than this is what any machine does beside.
const NOISE_PERCENT: f64 = 10.0;

impl Verdict {
    /// A judgement in the words of the mode that makes it.
    pub(crate) fn new(kind: Kind, sentence: impl Into<String>) -> Self {
        let sentence = sentence.into();
        Self { kind, sentence }
    }
}

/// Who was the bottleneck.
pub(crate) fn bottleneck(usage: &Usage) -> Kind {
    let driver_is_busy = usage.driver_percent > BUSY_PERCENT;
    match usage.server_busy_percent.map(|busy| busy > BUSY_PERCENT) {
        None => Kind::Unknown,
        Some(true) => Kind::ServerBottleneck,
        Some(false) if driver_is_busy => Kind::GeneratorBottleneck,
        Some(false) => Kind::NoBottleneck,
    }
}

/// Everything that is to be said; nothing if there is no objection.
pub(crate) fn verdicts(usage: &Usage) -> Vec<Verdict> {
    let driver = usage.driver_percent;
    let mut verdicts = Vec::new();
    match bottleneck(usage) {
        Kind::GeneratorBottleneck => verdicts.push(Verdict::new(
            Kind::GeneratorBottleneck,
            format!(
                "the generator was the bottleneck: it used {driver:.0} % of its CPU, and the server \
                 had time left; more --threads, or another machine, would show more"
            ),
        )),
        Kind::ServerBottleneck => verdicts.push(Verdict::new(
            Kind::ServerBottleneck,
            "the server was the bottleneck: it used all the CPU that it can",
        )),
        Kind::Unknown if driver > BUSY_PERCENT => verdicts.push(Verdict::new(
            Kind::Unknown,
            "the generator had no time left, and nobody knows whether the server had: give \
             --server-pid",
        )),
        _ => {}
    }
    if let Some(others) = usage
        .others_percent
        .filter(|others| *others > NOISE_PERCENT)
    {
        verdicts.push(Verdict::new(
            Kind::Noisy,
            format!(
                "noisy: others took {others:.0} % of the machine while this ran; trust the CPU per \
                 delivery more than rates and latencies"
            ),
        ));
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(driver_percent: f64, server: Option<f64>, others: Option<f64>) -> Vec<Kind> {
        let usage = Usage {
            driver_percent,
            server_busy_percent: server,
            others_percent: others,
        };
        let verdicts = verdicts(&usage);
        verdicts.iter().map(|verdict| verdict.kind).collect()
    }

    #[test]
    fn the_generator_is_blamed_only_if_the_server_had_time() {
        use Kind::*;
        assert_eq!(kinds(95.0, Some(50.0), None), [GeneratorBottleneck]);
        assert_eq!(kinds(95.0, Some(99.0), None), [ServerBottleneck]);
        assert_eq!(kinds(50.0, Some(99.0), None), [ServerBottleneck]);
        assert_eq!(kinds(50.0, Some(50.0), None), []);
        assert_eq!(kinds(95.0, None, None), [Unknown]);
        assert_eq!(kinds(50.0, None, None), []);
    }

    #[test]
    fn several_verdicts_can_hold() {
        use Kind::*;
        assert_eq!(
            kinds(95.0, Some(50.0), Some(31.0)),
            [GeneratorBottleneck, Noisy]
        );
        assert_eq!(kinds(10.0, Some(10.0), Some(31.0)), [Noisy]);
        assert_eq!(kinds(10.0, Some(10.0), Some(3.0)), []);
    }

    #[test]
    fn the_sentence_says_how_noisy_it_was() {
        let usage = Usage {
            others_percent: Some(31.4),
            ..Usage::default()
        };
        assert!(verdicts(&usage)[0].sentence.contains("others took 31 %"));
    }
}
