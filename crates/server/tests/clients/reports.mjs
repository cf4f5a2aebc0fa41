/**
 * @file Reports of runs that were never made, as the load generator writes them: what its page must
 * be able to show.
 */

/** Between -1 and 1, the same in every run, and without a pattern that one sees. */
const wobble = (step) => Math.sin(step * 12.9898) * Math.cos(step * 4.1414);

const SECONDS = 60;

/** Latencies that grow as real ones do: slowly at first, and steeply in the last thousandth. */
export function latency(p50, tail, count = 18_000_000) {
  const us = (quantile) => {
    const nines = Math.min(-Math.log10(1 - quantile), Math.log10(count));
    return p50 * (0.55 + nines * 1.5 + (nines / 4.2) ** 5 * tail);
  };
  const distribution = [];
  // Each histogram has steps of its own.
  const step = 1 - 0.6 / Math.log10(count + p50);
  for (let left = 1; left > 1 / count; left *= step) distribution.push([1 - left, us(1 - left)]);
  distribution.push([1, us(1)]);
  return {
    p50: us(0.5),
    p90: us(0.9),
    p99: us(0.99),
    p999: us(0.999),
    max: us(1),
    count,
    distribution,
  };
}

/** Looks at a run, one a second. */
function series(read, length = SECONDS) {
  return Array.from({ length }, (_, second) => ({
    seconds: second + 1,
    connections: 1000,
    publications_per_second: 310 + 8 * wobble(second),
    deliveries_per_second: 310_000 + 8000 * wobble(second),
    latency_us: {
      p50: 2900 + 90 * wobble(second),
      p99: 6100 + 900 * wobble(second + 0.5),
      max: 9000 + 4000 * wobble(second + 0.7) ** 2 + (second === 37 ? 21_000 : 0),
    },
    lost: 0,
    server_cpu_percent: 96 + 2 * wobble(second),
    server_pss_bytes: 5_600_000 + 40_000 * Math.sqrt(second) + 9000 * wobble(second),
    driver_cpu_percent: 31 + 3 * wobble(second + 0.2),
    others_cpu_percent: 3 + 2.5 * wobble(second + 0.4),
    ...read?.(second),
  }));
}

const parameters = (mode, more) => ({
  mode,
  url: "ws://127.0.0.1:8080/ws",
  rooms: 1,
  members: 1000,
  publishers: 1,
  window: 1,
  rate: null,
  payload_bytes: 64,
  seconds: SECONDS,
  warmup_seconds: 2,
  pin: 1,
  ...more,
});

/** A run in which all went well, with every figure that there is. */
export const whole = {
  version: "0.1.0",
  command: [
    "loadtest",
    "fanout",
    "--members",
    "1000",
    "--window",
    "1",
    "--seconds",
    "60",
    "--server-pid",
    "4711",
    "--pin",
    "1",
    "--html",
    "the report.html",
  ],
  started: "2025-03-14T09:26:53Z",
  machine: {
    cpu: "AMD EPYC 9654 96-Core Processor",
    cpus: 2,
    memory_bytes: 25_000_000_000,
    kernel: "6.18.0",
  },
  server: { pid: 4711, command: "throng --listen 127.0.0.1:8080", version: "0.1.0" },
  scenario: parameters("fan-out"),
  interrupted: false,
  connections: 1000,
  connects_per_second: 17_438.29,
  measured_seconds: 60.0007,
  publications: 18_612,
  publications_per_second: 310.19,
  deliveries: 18_612_000,
  deliveries_per_second: 310_196.4,
  deliveries_per_read: 1.02,
  latency_us: latency(2900, 2.2),
  latency_last_us: latency(3350, 2.6, 18_612),
  server_cpu_us_per_delivery: 6.07,
  server_cpu_percent: 96.3,
  driver_cpu_us_per_delivery: 0.412,
  driver_cpu_percent: 31.2,
  lost: 0,
  repeated: 0,
  reordered: 0,
  truncated: 0,
  unreadable: 0,
  given_up: 0,
  stood_still_seconds: 0,
  disconnected: 0,
  first_disconnect: null,
  server_errors: 0,
  first_server_error: null,
  server_pss_bytes: { before: 2_619_392, after: 5_896_000 },
  bytes_per_connection: null,
  series: series(),
  neighbour: null,
  verdict: "server_bottleneck",
  verdicts: ["the server was the bottleneck"],
};

/** A run of a server that loses, on a machine that others use, until somebody ended it. */
export const faulty = {
  ...whole,
  scenario: parameters("storm", {
    name: "storm",
    rooms: 20,
    members: 500,
    rate: 200,
    window: null,
  }),
  interrupted: true,
  lost: 1234,
  repeated: 7,
  reordered: 2,
  disconnected: 41,
  first_disconnect: "code 4102, slow_consumer",
  server_errors: 3,
  first_server_error: 'overloaded: try "later"',
  stood_still_seconds: 1.4,
  verdicts: [
    "the generator was the bottleneck",
    "others took 38 % of the machine: the figures are noisy",
  ],
  series: series((second) => ({
    connections: second < 20 ? 10_000 : Math.min(10_000, (second - 20) * 900),
    lost: Math.min(1234, 310 * Math.max(0, second - 19)),
    latency_us:
      second === 20 || second === 21
        ? null
        : {
            p50: 800,
            p99: 2400 + 900 * wobble(second),
            max: 4000 + (second > 21 ? 900_000 / (second - 20) ** 2 : 0),
          },
    server_pss_bytes: second > 19 ? 24_000_000 : 14_000_000,
    others_cpu_percent: 38 + 9 * wobble(second),
  })),
  storm: {
    dropped: 10_000,
    refused: 312,
    seconds_until_all_served: 10.42,
    pss_bytes_max: 25_100_000,
    connects_per_second: 1003.4,
  },
};

/** A search for the rate at which the latency breaks its limit. */
export const knee = {
  ...whole,
  scenario: parameters("knee", { window: null, rate: null, members: 500 }),
  knee: {
    rate_held: 1287.5,
    p99_limit_us: 20_000,
    steps: [100, 200, 400, 800, 1600, 1200, 1400, 1300, 1250, 1287.5].map((rate) => ({
      rate,
      publications_per_second: Math.min(rate, 1322),
      latency_us: {
        p50: 410 + rate / 4,
        p99: 900 + rate * 1.6 + (rate > 1200 ? (rate - 1200) ** 2 * 4 : 0),
        max: rate > 1300 ? 1_200_000 : 9000 + rate,
      },
      lost: 0,
      server_cpu_percent: Math.min(100, rate / 13),
      held: rate < 1290,
    })),
  },
};

/** A small room beside a flood. */
export const neighbour = {
  ...whole,
  scenario: parameters("neighbour", { members: 10_000 }),
  latency_last_us: null,
  neighbour: { alone: latency(340, 0.4, 2000), flooded: latency(520, 1.1, 2000) },
};

/** Two hours, with more looks at the run than a plot has room for. */
export const soak = {
  ...whole,
  scenario: parameters("soak", { seconds: 7200 }),
  measured_seconds: 7200.0012,
  series: series((second) => ({ server_pss_bytes: 5_600_000 + 20 * second }), 7200),
  soak: {
    p99_first_us: 6100,
    p99_last_us: 6140,
    p99_ratio: 1.007,
    pss_growth_bytes_per_hour: 72_000,
    pss_growth_ratio: 0.026,
    latency_drifts: false,
    memory_drifts: false,
  },
};

/** As little as a run can report. */
export const idle = {
  scenario: parameters("idle", { window: null, members: 10_000, seconds: null }),
  connections: 10_000,
  connects_per_second: 9877,
  measured_seconds: 0,
  deliveries: 10_000,
  deliveries_per_second: 0,
  latency_us: null,
  driver_cpu_percent: 0,
  lost: 0,
  repeated: 0,
  reordered: 0,
  server_pss_bytes: { before: 2_619_392, after: 6_419_392 },
  bytes_per_connection: 380,
  verdict: "unknown",
};
