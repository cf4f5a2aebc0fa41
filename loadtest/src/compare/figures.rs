//! Which figures of a report are compared: for each mode the headline, by which the ratio goes, and
//! what a reader wants to see beside it.

use serde_json::Value;

/// One figure of a report.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figure {
    /// Its place in the report's JSON. With a `*` in it, it is the largest of a list or of an object.
    pointer: &'static str,
    /// What to call it, with its unit.
    pub(super) title: &'static str,
    /// How many of the report's units are one of the title's.
    units: f64,
}

impl Figure {
    const fn new(pointer: &'static str, title: &'static str) -> Self {
        Self {
            pointer,
            title,
            units: 1.0,
        }
    }

    /// The figure in a report, if it is there.
    pub(super) fn read(&self, report: &Value) -> Option<f64> {
        let figure = match self.pointer.split_once("/*") {
            None => report.pointer(self.pointer)?.as_f64(),
            Some((list, place)) => {
                let all: Vec<&Value> = match report.pointer(list)? {
                    Value::Array(list) => list.iter().collect(),
                    Value::Object(object) => object.values().collect(),
                    _ => return None,
                };
                let figures = all.into_iter();
                let figures = figures.filter_map(|one| one.pointer(place)?.as_f64());
                figures.max_by(f64::total_cmp)
            }
        };
        Some(figure? / self.units)
    }

    /// The figure with its name.
    pub(super) fn said(&self, report: &Value) -> String {
        let figure = self.read(report).map_or_else(|| "no".to_owned(), short);
        format!("{figure} {}", self.title)
    }
}

/// What is compared in a mode, by its name; the first figure is the headline.
pub(super) fn of(mode: &str) -> &'static [Figure] {
    match mode {
        "churn" => &[VISIT_CPU, P99_HANDSHAKE, P99_JOIN, MEMORY],
        "flood" => &[
            FLOOD_WORST,
            FLOOD_ALONE,
            FLOOD_MSG,
            FLOOD_ROOM,
            FLOOD_PING,
            FLOOD_PONG,
            FLOOD_JSON,
            FLOOD_BINARY,
            FLOOD_UNKNOWN,
            FLOOD_JOIN,
            FLOOD_FRAGMENT,
            FLOOD_PAGE,
        ],
        "idle" => &[CONNECTION_BYTES, CONNECTS, MEMORY],
        "latency" => &[P99, P99_LAST, SERVER_CPU, MEMORY],
        "neighbour" => &[P99_FLOODED, P99_ALONE, SERVER_CPU, DELIVERIES, MEMORY],
        "recovery" => &[MAX_LIVE, MAX_OTHER, MAX_CALM, RECOVERED, RECOVERY_PEAK],
        "slow" => &[P99_BESIDE_SLOW, P99_WITHOUT_SLOW, SLOW_PEAK, SERVER_CPU],
        "storm" => &[ALL_SERVED, STORM_P99_HANDSHAKE, STORM_PEAK],
        _ => &[SERVER_CPU, DELIVERIES, P99, MEMORY],
    }
}

const VISIT_CPU: Figure = Figure::new(
    "/churn/server_cpu_us_per_connect",
    "µs of server CPU per visit",
);
const P99_HANDSHAKE: Figure = Figure::new("/churn/handshake_us/p99", "p99 of the handshake, µs");
const P99_JOIN: Figure = Figure::new("/churn/join_us/p99", "p99 until joined, µs");
const FLOOD_WORST: Figure = Figure::new(
    "/flood/p99_us_by_kind/*",
    "µs of latency beside the worst flood, p99",
);
const FLOOD_ALONE: Figure = Figure::new("/flood/alone_us/p99", "p99 without a flood, µs");
const FLOOD_MSG: Figure = Figure::new("/flood/p99_us_by_kind/msg", "msg, µs");
const FLOOD_ROOM: Figure = Figure::new("/flood/p99_us_by_kind/room", "room, µs");
const FLOOD_PING: Figure = Figure::new("/flood/p99_us_by_kind/ping", "ping, µs");
const FLOOD_PONG: Figure = Figure::new("/flood/p99_us_by_kind/pong", "pong, µs");
const FLOOD_JSON: Figure = Figure::new("/flood/p99_us_by_kind/json", "json, µs");
const FLOOD_BINARY: Figure = Figure::new("/flood/p99_us_by_kind/binary", "binary, µs");
const FLOOD_UNKNOWN: Figure = Figure::new("/flood/p99_us_by_kind/unknown", "unknown, µs");
const FLOOD_JOIN: Figure = Figure::new("/flood/p99_us_by_kind/join", "join, µs");
const FLOOD_FRAGMENT: Figure = Figure::new("/flood/p99_us_by_kind/fragment", "fragment, µs");
const FLOOD_PAGE: Figure = Figure::new("/flood/floods/*/page_us/p99", "worst p99 of the page, µs");
const P99_BESIDE_SLOW: Figure = Figure::new(
    "/slow/latency_with_us/p99",
    "µs of latency beside slow members, p99",
);
const P99_WITHOUT_SLOW: Figure =
    Figure::new("/slow/latency_without_us/p99", "p99 without them, µs");
const SLOW_PEAK: Figure = Figure {
    units: MIB,
    ..Figure::new("/slow/server_pss_peak_bytes", "peak server PSS, MiB")
};
const MAX_LIVE: Figure = Figure::new(
    "/recovery/same_room/meanwhile_us/max",
    "µs at most to who stayed while others recover",
);
const MAX_OTHER: Figure = Figure::new(
    "/recovery/other_room/meanwhile_us/max",
    "at most in another room, µs",
);
const MAX_CALM: Figure = Figure::new(
    "/recovery/same_room/calm_us/max",
    "at most while everybody is there, µs",
);
const RECOVERED: Figure = Figure::new("/recovery/all_served_seconds", "s until all recovered");
const RECOVERY_PEAK: Figure = Figure {
    units: MIB,
    ..Figure::new("/recovery/server_pss_peak_bytes", "peak server PSS, MiB")
};
const ALL_SERVED: Figure = Figure::new(
    "/storm/storms/*/all_served_seconds",
    "s until all are served, slowest storm",
);
const STORM_P99_HANDSHAKE: Figure = Figure::new(
    "/storm/storms/*/handshake_us/p99",
    "p99 of the handshake, µs",
);
const STORM_PEAK: Figure = Figure {
    units: MIB,
    ..Figure::new(
        "/storm/storms/*/server_pss_peak_bytes",
        "peak server PSS, MiB",
    )
};

const SERVER_CPU: Figure = Figure::new(
    "/server_cpu_us_per_delivery",
    "µs of server CPU per delivery",
);
const DELIVERIES: Figure = Figure::new("/deliveries_per_second", "deliveries/s");
const P99: Figure = Figure::new("/latency_us/p99", "p99, µs");
const P99_LAST: Figure = Figure::new("/latency_last_us/p99", "p99 to the last member, µs");
const P99_FLOODED: Figure = Figure::new("/neighbour/flooded/p99", "µs of latency, p99");
const P99_ALONE: Figure = Figure::new("/neighbour/alone/p99", "p99 without the flood, µs");
const CONNECTION_BYTES: Figure = Figure::new(
    "/bytes_per_connection",
    "bytes of the server (PSS) per connection",
);
const CONNECTS: Figure = Figure::new("/connects_per_second", "connects/s");
const MEMORY: Figure = Figure {
    units: MIB,
    ..Figure::new("/server_pss_bytes/after", "server PSS, MiB")
};

const MIB: f64 = 1_048_576.0;

/// The digits that matter.
pub(super) fn short(figure: f64) -> String {
    match figure.abs() {
        100.0.. => grouped(figure),
        1.0.. => format!("{figure:.2}"),
        _ => format!("{figure:.4}"),
    }
}

/// With commas at the thousands, from five digits on.
fn grouped(figure: f64) -> String {
    let digits = format!("{:.0}", figure.abs());
    let sign = if figure < 0.0 { "-" } else { "" };
    if digits.len() < 5 {
        return format!("{sign}{digits}");
    }
    let places = digits.chars().enumerate();
    let with_commas = places.flat_map(|(index, digit)| {
        let comma = index > 0 && (digits.len() - index).is_multiple_of(3);
        comma.then_some(',').into_iter().chain([digit])
    });
    sign.chars().chain(with_commas).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_keep_the_digits_that_matter() {
        let text = [
            "0.02153", "2.841", "533.7", "9999.4", "21250", "1234567", "-45678",
        ];
        assert_eq!(
            text.map(|text| short(text.parse().unwrap())),
            [
                "0.0215",
                "2.84",
                "534",
                "9999",
                "21,250",
                "1,234,567",
                "-45,678"
            ]
        );
    }

    #[test]
    fn a_figure_is_read_in_the_unit_of_its_title() {
        let report = json!({ "server_pss_bytes": { "after": 3_145_728 } });
        assert_eq!(MEMORY.read(&report), Some(3.0));
        assert_eq!(MEMORY.said(&report), "3.00 server PSS, MiB");
        assert_eq!(P99.read(&report), None);
        let storms = |list| json!({ "storm": { "storms": list } });
        let all_served = |seconds| json!({ "all_served_seconds": seconds });
        let report = storms([all_served(0.5), all_served(2.0), all_served(1.0)]);
        assert_eq!(ALL_SERVED.read(&report), Some(2.0));
        assert_eq!(
            ALL_SERVED.read(&storms([json!({}), json!({}), json!({})])),
            None
        );
        let report = json!({ "flood": { "p99_us_by_kind": { "msg": 3.0, "ping": 7.0 } } });
        assert_eq!(FLOOD_WORST.read(&report), Some(7.0));
        assert_eq!(FLOOD_PONG.read(&report), None);
    }
}
