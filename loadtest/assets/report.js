/**
 * @file Draws the page of a run from its report, the JSON in this file.
 *
 * Invariants:
 *
 * - Texts of the report may be a hostile server's. They reach the page through `textContent` alone.
 * - Every figure may be absent. Its part of the page is absent then, and so is a part of which
 *   nothing is left.
 * - The page is drawn anew when the colours or the width change; nothing but the report is kept.
 */

const report = JSON.parse(document.getElementById("report").textContent);

/** Sections of the report that a mode of the generator adds, in the order of the page. */
const MODES = ["neighbour", "flood", "knee", "soak", "churn", "storm", "recovery", "slow"];
MODES.push("idle");
/** Parts of the report that have a place of their own on the page. */
const PLACED = [...MODES, "command", "latency_last_us", "latency_us", "machine", "scenario"];
PLACED.push("series", "server", "verdict", "verdicts", "version", "started");
/** A latency whose worst is this many times its best is drawn on a logarithmic scale. */
const LOG_FROM = 40;
const PLOT_HEIGHT_PX = 230;
/** More dots than this in a plot over time are a smear. */
const DOTS_MAX = 300;
/** Of a plot's height on paper, so that a page has room for three below each other. */
const PAPER_SCALE = 0.75;

// ---- Texts --------------------------------------------------------------------------------------

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isPositive = (value) => isNumber(value) && value > 0;

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const rounded = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

function number(value) {
  return Number.isInteger(value) || Math.abs(value) >= 1000
    ? grouped.format(value)
    : rounded.format(value);
}

/** A number of the smallest of `units` in the largest that leaves at least one: `1.5 MiB`. */
function inUnits(value, units) {
  const fits = units.filter(([, size]) => Math.abs(value) >= size);
  const [unit, size] = fits.at(-1) ?? units[0];
  return withUnit(value / size, unit);
}

/** With a space at which a line does not break. */
const withUnit = (value, unit) => `${number(value)}\u00a0${unit}`;

const duration = (us) =>
  inUnits(us, [
    ["µs", 1],
    ["ms", 1e3],
    ["s", 1e6],
  ]);
const bytes = (count) =>
  inUnits(count, [
    ["B", 1],
    ["KiB", 2 ** 10],
    ["MiB", 2 ** 20],
    ["GiB", 2 ** 30],
  ]);
const percent = (value) => withUnit(value, "%");
const seconds = (value) => withUnit(value, "s");
const count = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`;

/** Which kind of figure a name means: the unit is a part of the names in the report. */
const KINDS = [
  [/(^|_)us(_|$)|^p\d+$|^max$/, duration],
  [/(^|_)bytes(_|$)/, bytes],
  [/_percent$/, percent],
  [/(^|_)seconds(_|$)/, elapsed],
];
const WORDS = {
  cpu: "CPU",
  cpus: "CPUs",
  p999: "p99.9",
  pid: "process",
  pin: "pinned to CPU",
  pss: "memory",
  seconds: "duration",
  url: "URL",
};

/** A value as people read it; `path` are the names that lead to it, the nearest last. */
function text(path, value) {
  if (Array.isArray(value)) return value.map((item) => text(path, item)).join(", ");
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (!isNumber(value)) return String(value);
  if (path.at(-1) === "pid") return String(value);
  const names = path.toReversed();
  const kind = names.map((name) => KINDS.find(([pattern]) => pattern.test(name))).find(Boolean);
  return kind ? kind[1](value) : number(value);
}

/** `server_cpu_us_per_delivery` as `server CPU per delivery`: the value says its unit. */
function label(path) {
  const words = path.map((name) =>
    name.replace(/_(us|bytes|percent)(?=_|$)|_seconds$/g, "").split("_"),
  );
  return words
    .flat()
    .map((word) => WORDS[word] ?? word)
    .join(" ");
}

const capital = (sentence) => sentence.replace(/^./, (first) => first.toUpperCase());
const title = (name) => capital(label([name]));

/** Words of a command line, quoted where a shell would take them apart. */
const quoted = (word) =>
  /^[\w@%+=:,./-]+$/.test(word) ? word : `'${String(word).replaceAll("'", `'\\''`)}'`;

// ---- Elements -----------------------------------------------------------------------------------

/** An element; children that are null or empty texts are left out. */
function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children.flat().filter((child) => child !== null && child !== ""));
  return element;
}

/** An element, or null if there is nothing to put into it. */
function wrap(tag, className, children) {
  const present = children.flat(Infinity).filter(Boolean);
  return present.length > 0 ? make(tag, className, present) : null;
}

/** A part of the page under its heading, or null. */
function part(heading, ...children) {
  const content = wrap("div", "", children);
  return content && [make("h2", "", heading), ...content.childNodes];
}

/** Names and values below each other. */
function facts(entries, className = "") {
  return wrap(
    "dl",
    `facts ${className}`,
    entries.map(([path, value]) => [
      make("dt", "", label(path)),
      make("dd", "", text(path, value)),
    ]),
  );
}

function card(heading, ...children) {
  const content = wrap("section", "card", children);
  if (heading) content?.prepend(make("h3", "", heading));
  return content;
}

/** Everything below `value` that is a figure or a text, with the names that lead to it. */
function leaves(value, path = []) {
  if (value === null || value === undefined || value === "") return [];
  if (isObject(value)) {
    return Object.entries(value).flatMap(([name, inner]) => leaves(inner, [...path, name]));
  }
  const isList = Array.isArray(value);
  return isList && (value.length === 0 || value.some((item) => typeof item === "object"))
    ? []
    : [[path, value]];
}

/** Objects below each other, a column for each name that any of them has. */
function table(rows) {
  const found = rows.map(([name, row]) => [
    name,
    new Map(leaves(row).map((leaf) => [label(leaf[0]), leaf])),
  ]);
  const columns = [...new Set(found.flatMap(([, row]) => [...row.keys()]))];
  if (columns.length === 0) return null;
  const named = found.some(([name]) => name !== null);
  const head = make(
    "tr",
    "",
    named ? make("th", "") : null,
    columns.map((name) => make("th", "", name)),
  );
  const body = found.map(([name, row]) =>
    make(
      "tr",
      "",
      named ? make("th", "", label([name])) : null,
      columns.map((column) => make("td", "", row.has(column) ? text(...row.get(column)) : "–")),
    ),
  );
  const element = make("table", "figures", make("thead", "", head), make("tbody", "", body));
  return make("div", "scroll", element);
}

// ---- Plots --------------------------------------------------------------------------------------

const colour = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const isPaper = () => document.documentElement.classList.contains("paper");

/** Plots to be drawn once their places are on the page and have a width. */
let pending = [];
let drawn = [];

/**
 * What is drawn into a plot. A value that is null is a gap, one that is undefined is passed over.
 *
 * @typedef {{ label: string, colour: string, values: (number | null | undefined)[],
 *   dots?: boolean, dash?: number[] }} Line
 */

/**
 * The axis below it; `shared` is one that other plots have too, so that a cursor shows in all.
 *
 * @typedef {{ label: string, values: number[], text: (value: number) => string, scale?: object,
 *   axis?: object, shared?: boolean }} Axis
 */

/**
 * A plot, or null if no line of it has a value.
 *
 * @param {string} heading
 * @param {string} hint What the figures are, in a sentence.
 * @param {Axis} x
 * @param {Line[]} lines
 * @param {(value: number) => string} format What a value is called beside the axis and the line.
 * @param {{ axis?: object, isLatency?: boolean, height?: number }} [y]
 */
function plot(heading, hint, x, lines, format, y = {}) {
  const present = lines.filter(({ values }) => values.some(isNumber));
  if (present.length === 0 || x.values.length < 2) return null;
  const place = make("div", "plot");
  const isLog = y.isLatency && spread(present.flatMap(({ values }) => values)) > LOG_FROM;
  pending.push(() => {
    const data = present.map(({ values }) =>
      values.map((value) => (isLog && value <= 0 ? null : value)),
    );
    drawn.push(
      new uPlot(
        settings(x, present, format, y, isLog, place.clientWidth),
        [x.values, ...data],
        place,
      ),
    );
  });
  const scale = isLog ? `${hint} The scale is logarithmic.` : hint;
  return card(heading, make("p", "", scale), place);
}

/** How many times the least positive value the greatest is. */
function spread(values) {
  const positive = values.filter(isPositive);
  const most = positive.reduce((found, value) => Math.max(found, value), 0);
  return most / positive.reduce((found, value) => Math.min(found, value), most);
}

function settings(x, lines, format, y, isLog, width) {
  const axis = {
    stroke: colour("muted"),
    font: "12px system-ui, sans-serif",
    grid: { stroke: colour("grid"), width: 1 },
    ticks: { show: false },
    gap: 6,
  };
  const range = isLog
    ? (_, min, max) => uPlot.rangeLog(min, max, 10, false)
    : (_, min, max) => [Math.min(0, min), max > 0 ? max * 1.08 : 1];
  const labels = (read) => (_, values) =>
    values.map((value) => (value === null ? "" : read(value)));
  return {
    width,
    height: (y.height ?? PLOT_HEIGHT_PX) * (isPaper() ? PAPER_SCALE : 1),
    padding: [10, 24, 0, 0],
    cursor: {
      y: false,
      points: { size: 8, width: 2 },
      sync: x.shared ? { key: "time" } : undefined,
    },
    scales: { x: { time: false, ...x.scale }, y: { distr: isLog ? 3 : 1, range } },
    axes: [
      { ...axis, size: 28, grid: { show: false }, values: labels(x.text), ...x.axis },
      { ...axis, size: 66, values: labels(format), ...y.axis },
    ],
    series: [
      { label: x.label, value: (_, value) => (isNumber(value) ? x.text(value) : "") },
      ...lines.map((line, index) => ({
        label: line.label,
        stroke: colour(line.colour),
        width: line.dots ? 0 : 2,
        dash: line.dash,
        pxAlign: 0,
        fill: lines.length === 1 && !line.dots ? `${colour(line.colour)}1a` : undefined,
        points: line.dots ? { show: true, size: 9, fill: colour(line.colour) } : { show: false },
        value: (_, value) => (isNumber(value) ? format(value) : ""),
      })),
    ],
    legend: { markers: { fill: (_, index) => colour(lines[index - 1]?.colour ?? "muted") } },
  };
}

/** The steps of an axis of bytes: powers of two. */
const BYTE_STEPS = Array.from({ length: 44 }, (_, power) => 2 ** power);
/** The steps of an axis of time, in seconds. */
const TIME_STEPS = [
  0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200,
];

/** `90 s`, `12 min`, `1 h 30 min`. */
function elapsed(value) {
  if (value < 120) return seconds(value);
  const whole = Math.round(value);
  const minutes = Math.floor(whole / 60);
  const parts = [
    [Math.floor(minutes / 60), "h"],
    [minutes % 60, "min"],
    [whole % 60, "s"],
  ];
  return parts
    .filter(([amount]) => amount > 0)
    .map(([amount, unit]) => withUnit(amount, unit))
    .join(" ");
}

/** Percentiles as HdrHistogram draws them: each decade of the axis is one more nine. */
function percentilePlot() {
  const last = {
    "every delivery": report.latency_us,
    "last member of the room": report.latency_last_us,
  };
  const modes = MODES.flatMap((mode) =>
    Object.entries(report[mode] ?? {}).map(([name, value]) => [label([mode, name]), value]),
  );
  const found = [...Object.entries(last), ...modes].filter(([, value]) =>
    Array.isArray(value?.distribution),
  );
  const curves = found.map(([name, { distribution }]) => [name, curve(distribution)]);
  const values = [...new Set(curves.flatMap(([, points]) => [...points.keys()]))].sort(
    (a, b) => a - b,
  );
  const colours = ["first", "second", "third", "muted"];
  const lines = curves.slice(0, colours.length).map(([name, points], index) => ({
    label: name,
    colour: colours[index],
    values: values.map((value) => points.get(value)),
  }));
  const end = values.at(-1);
  // As many nines as there is room for their names.
  const splits = ({ width }) => {
    const decade = (width - 90) / Math.log10(end);
    const step = Math.ceil(70 / decade);
    const nines = Array.from({ length: 12 }, (_, index) => 10 ** (index * step));
    return (decade > 130 ? [...nines, 2] : nines)
      .filter((value) => value <= end)
      .sort((a, b) => a - b);
  };
  const x = {
    label: "percentile",
    values,
    text: percentile,
    scale: { distr: 3, range: (_, min, max) => [Math.max(min, 1), Math.min(max, end)] },
    axis: { splits, filter: (_, shown) => shown, grid: { stroke: colour("grid"), width: 1 } },
  };
  const hint =
    "How long this share of all deliveries took at most, from when their publications were due.";
  const element = plot("Latency by percentile", hint, x, lines, duration, {
    isLatency: true,
    height: 300,
  });
  element?.classList.add("wide");
  return element;
}

/** The name of a place on that axis, with a digit more than its nines. */
function percentile(value) {
  const digits = Math.max(0, Math.ceil(Math.log10(value)) - 1);
  return `${Number((100 - 100 / value).toFixed(digits))}\u00a0%`;
}

/**
 * Latencies by 1 / (1 - quantile), which is 1 for the best and 100 for p99. The very last has no
 * place there.
 */
function curve(distribution) {
  const points = distribution.filter((pair) => pair.every(isNumber) && pair[0] >= 0 && pair[0] < 1);
  return new Map(points.map(([quantile, us]) => [1 / (1 - quantile), us]));
}

/** How several looks at the run become one dot of a line. */
const MERGE = {
  sum: (values) => values.reduce((all, value) => all + value, 0),
  mean: (values) => MERGE.sum(values) / values.length,
  most: (values) => Math.max(...values),
};

/** What the generator looked at once a second. A long run has several looks in one dot. */
function seriesPlots() {
  const series = (report.series ?? []).filter(({ seconds: at }) => isNumber(at));
  const each = Math.ceil(series.length / DOTS_MAX);
  const column = (read, merge = MERGE.mean) =>
    series
      .filter((_, index) => index % each === 0)
      .map((_, dot) =>
        series
          .slice(dot * each, (dot + 1) * each)
          .map(read)
          .filter(isNumber),
      )
      .map((values) => (values.length > 0 ? merge(values) : null));
  const line = (name, colourName, read, merge) => ({
    label: name,
    colour: colourName,
    values: column(read, merge),
  });
  const x = {
    label: "after",
    values: column((row) => row.seconds, MERGE.most),
    text: elapsed,
    axis: { incrs: TIME_STEPS, space: 84 },
    shared: true,
  };
  const isSteady = new Set(column((row) => row.connections)).size < 2;
  const isWhole = !column((row) => row.lost).some(isPositive);
  const rate = (value) => compact.format(value);
  const latency = [
    line("p50", "first", (row) => row.latency_us?.p50, MERGE.most),
    line("p99", "second", (row) => row.latency_us?.p99, MERGE.most),
    line("max", "third", (row) => row.latency_us?.max, MERGE.most),
  ];
  const cpu = [
    line("server", "first", (row) => row.server_cpu_percent),
    line("generator", "second", (row) => row.driver_cpu_percent),
    line("others", "muted", (row) => row.others_cpu_percent),
  ];
  const dot = (what) => (each > 1 ? ` A dot is the ${what} of ${each} looks at the run.` : "");
  const over = (heading, hint, lines, format, y) =>
    plot(heading, `${hint}${dot(y?.dot ?? "mean")}`, x, lines, format, y);
  return [
    over("Latency", "From when a publication was due to its deliveries.", latency, duration, {
      isLatency: true,
      dot: "worst",
    }),
    over("CPU", "100 % is one core.", cpu, percent),
    over(
      "Deliveries",
      "Per second, over all members.",
      [line("deliveries", "first", (row) => row.deliveries_per_second)],
      rate,
    ),
    over(
      "Publications",
      "Per second, over all publishers.",
      [line("publications", "third", (row) => row.publications_per_second)],
      rate,
    ),
    over(
      "Server memory",
      "Proportional set size.",
      [line("memory", "first", (row) => row.server_pss_bytes)],
      bytes,
      { axis: { incrs: BYTE_STEPS } },
    ),
    !isSteady &&
      over(
        "Connections",
        "Open at the time.",
        [line("connections", "third", (row) => row.connections)],
        rate,
      ),
    !isWhole &&
      over(
        "Lost deliveries",
        "Noticed by then, since the beginning.",
        [line("lost", "bad", (row) => row.lost, MERGE.most)],
        rate,
        { dot: "last" },
      ),
  ];
}

/** Latency by the rate that was tried, if the steps say both. */
function kneePlot() {
  const steps = (report.knee?.steps ?? []).map((step) =>
    leaves(step).map(([path, value]) => [path.join("."), value]),
  );
  const read = (step, pattern) =>
    step.find(([name, value]) => pattern.test(name) && isNumber(value))?.[1] ?? null;
  const points = steps.map((step) => ({
    rate: read(step, /rate/) ?? read(step, /per_second/),
    p99: read(step, /(^|[._])p99(_|$)/),
    held: step.find(([, value]) => typeof value === "boolean")?.[1] ?? true,
  }));
  const found = points
    .filter(({ rate, p99 }) => isNumber(rate) && isNumber(p99))
    .sort((a, b) => a.rate - b.rate);
  const limit = read(
    leaves({ ...report.knee, steps: null }).map(([path, value]) => [path.join("."), value]),
    /limit.*_us|p99.*(limit|max)/,
  );
  const dots = (name, colourName, held) => ({
    label: name,
    colour: colourName,
    dots: true,
    values: found.map((point) => (point.held === held ? point.p99 : null)),
  });
  const lines = [
    { label: "p99", colour: "muted", values: found.map(({ p99 }) => p99) },
    { label: "limit", colour: "bad", dash: [6, 5], values: found.map(() => limit) },
    dots("held", "first", true),
    dots("did not hold", "bad", false),
  ];
  const x = {
    label: "at",
    values: found.map(({ rate }) => rate),
    text: (value) => `${compact.format(value)}/s`,
  };
  return plot(
    "p99 by rate",
    "Each dot is a rate that was tried, in publications per second.",
    x,
    lines,
    duration,
    { isLatency: true, height: 280 },
  );
}

// ---- The page -----------------------------------------------------------------------------------

function heading() {
  const {
    name,
    mode,
    rooms,
    members,
    window: underWay,
    rate,
    payload_bytes: payload,
  } = report.scenario ?? {};
  const sentence = [
    isNumber(rooms) && isNumber(members)
      ? `${count(rooms, "room")} × ${count(members, "member")}`
      : null,
    isNumber(underWay) ? `${count(underWay, "publication")} under way` : null,
    isNumber(rate) ? `${number(rate)} publications per second` : null,
    isNumber(payload) ? `payloads of ${count(payload, "byte")}` : null,
    isPositive(report.measured_seconds)
      ? `measured for ${elapsed(+report.measured_seconds.toFixed(1))}`
      : null,
  ];
  const started = new Date(report.started ?? NaN);
  const clock = { dateStyle: "long", timeStyle: "long" };
  const where = [
    report.scenario?.url,
    Number.isNaN(started.getTime()) ? null : started.toLocaleString("en-GB", clock),
    report.machine?.cpu,
  ];
  const heading = name ?? mode ?? "Load test";
  document.title = `${heading}: load test`;
  return make(
    "header",
    "",
    make("p", "kind", "Load test"),
    make("h1", "", title(heading)),
    make("p", "sentence", sentence.filter(Boolean).join(", ")),
    make("p", "when", where.filter(Boolean).join(" · ")),
  );
}

/** What went wrong, loudly; or that nothing did. */
function outcome() {
  const faults = ["lost", "repeated", "reordered", "truncated", "unreadable", "disconnected"];
  const found = faults
    .filter((name) => isPositive(report[name]))
    .map((name) => [report[name], label([name])]);
  if (isPositive(report.server_errors)) found.push([report.server_errors, "errors of the server"]);
  const positions = report.positions ?? {};
  const wrong = ["offsets_missing", "offsets_repeated", "wrong_senders", "wrong_messages"];
  found.push(
    ...[...wrong, "unacknowledged"]
      .filter((name) => isPositive(positions[name]))
      .map((name) => [positions[name], label([name])]),
  );
  const because = [
    positions.first_fault && `The first fault of positions: ${positions.first_fault}`,
    report.first_disconnect && `The first disconnect: ${report.first_disconnect}`,
    report.first_server_error && `The server's first error: ${report.first_server_error}`,
  ];
  if (found.length > 0) {
    const list = found.map(([amount, name]) =>
      make("li", "", make("strong", "", number(amount)), name),
    );
    const element = make("section", "outcome faulty", make("ul", "faults", list));
    element.append(...because.filter(Boolean).map((line) => make("p", "", line)));
    return element;
  }
  const isChecked = isPositive(report.deliveries) && isNumber(report.lost);
  return isChecked
    ? make("p", "outcome", "Every delivery arrived once, whole and in order.")
    : null;
}

/** What the verdict of one word means, for a report without sentences. */
const VERDICTS = {
  generator_bottleneck: "The generator was the bottleneck: the figures are its, not the server's.",
  server_bottleneck: "The server was the bottleneck.",
};

function verdicts() {
  const found = [...(report.verdicts ?? [VERDICTS[report.verdict]])];
  if (report.interrupted) found.push("Interrupted: these are the figures so far.");
  if (isPositive(report.stood_still_seconds)) {
    found.push(
      `The generator stood still for ${seconds(report.stood_still_seconds)}: ` +
        "what was measured then is the machine's.",
    );
  }
  const lines = found.filter(Boolean).map((line) => make("li", "", capital(String(line))));
  return wrap("ul", "verdicts", lines);
}

/** One figure in large, or null. `aside` is a list of [what it is, its text]. */
function tile(name, figure, aside = [], className = "") {
  if (figure === null) return null;
  const [amount, unit] = figure.split("\u00a0");
  const beside = aside.filter(Boolean).join(", ");
  return make(
    "dl",
    `tile ${className}`,
    make("dt", "", name),
    make("dd", "figure", amount, unit ? make("span", "unit", unit) : null),
    beside ? make("dd", "aside", beside) : null,
  );
}

const shown = (value, format) => (isNumber(value) ? format(value) : null);
const shownIfAny = (value, format) => (isPositive(value) ? format(value) : null);
const joined = (before, value, after = "") => value && `${before}${value}${after}`;

function tiles() {
  const { after, before } = report.server_pss_bytes ?? {};
  const total = (value) => joined("", shownIfAny(value, number), " in all");
  const first = [
    tile(
      "Server CPU per delivery",
      shown(report.server_cpu_us_per_delivery, duration),
      [joined("server at ", shown(report.server_cpu_percent, percent), " of a core")],
      "first",
    ),
    tile("Deliveries per second", shownIfAny(report.deliveries_per_second, number), [
      total(report.deliveries),
    ]),
    tile("Publications per second", shownIfAny(report.publications_per_second, number), [
      total(report.publications),
    ]),
    tile("Memory per connection", shown(report.bytes_per_connection, bytes)),
    tile("Server memory", shown(after, bytes), [joined("", shown(before, bytes), " before")]),
    tile("Connections", shownIfAny(report.connections, number), [
      joined("", shownIfAny(report.connects_per_second, number), " opened per second"),
    ]),
  ];
  const latency = report.latency_us ?? {};
  const last = report.latency_last_us ?? {};
  const names = {
    p50: "p50 latency",
    p99: "p99 latency",
    p999: "p99.9 latency",
    max: "Slowest delivery",
  };
  const second = Object.entries(names).map(([key, name]) =>
    tile(name, shown(latency[key], duration), [joined("last member ", shown(last[key], duration))]),
  );
  return [wrap("div", "tiles", first), wrap("div", "tiles four", second)];
}

/** What a mode of the generator adds, whatever it is. */
function modePart(name) {
  const section = report[name];
  if (!isObject(section)) return null;
  const entries = Object.entries(section);
  const lists = entries.filter(([, value]) => Array.isArray(value) && value.some(isObject));
  const objects = entries.filter(([, value]) => isObject(value));
  const scalars = entries.filter(([, value]) => !isObject(value));
  const content = card(
    "",
    facts(leaves(Object.fromEntries(scalars))),
    objects.length > 0 ? table(objects) : null,
    lists.map(([inner, rows]) => [
      make("h3", "", title(inner)),
      table(rows.filter(isObject).map((row) => [null, row])),
    ]),
  );
  return part(title(name), name === "knee" ? wrap("div", "plots", [kneePlot()]) : null, content);
}

function setup() {
  const command = Array.isArray(report.command) ? report.command.map(quoted).join(" ") : null;
  const cards = wrap("div", "cards", [
    card("Scenario", facts(leaves(report.scenario))),
    card("Server", facts(leaves(report.server))),
    card("Machine", facts(leaves(report.machine))),
  ]);
  const { version, started } = report;
  const generator = card(
    "Generator",
    command && make("pre", "", command),
    facts(leaves({ version, started })),
  );
  return part("Setup", cards, generator);
}

/** Every other figure, so that none is only in the JSON. */
function allFigures() {
  const others = Object.entries(report).filter(([name]) => !PLACED.includes(name));
  const latency = Object.entries({
    "every delivery": report.latency_us,
    "last member of the room": report.latency_last_us,
  });
  const rows = latency.filter(([, value]) => isObject(value));
  return part(
    "All figures",
    rows.length > 0 ? card("Latency", table(rows)) : null,
    card("Everything else", facts(leaves(Object.fromEntries(others)), "broad")),
  );
}

function draw() {
  for (const old of drawn.splice(0)) old.destroy();
  pending = [];
  const plots = wrap("div", "plots", [percentilePlot(), ...seriesPlots()]);
  const hint =
    "Point at a plot for its figures. Drag over a part to see it closer; double-click to leave it.";
  const measured = part("Measured", plots && make("p", "hint", hint), plots);
  const parts = [
    heading(),
    outcome(),
    verdicts(),
    tiles(),
    MODES.map(modePart),
    measured,
    allFigures(),
    setup(),
  ];
  document.getElementById("page").replaceChildren(...parts.flat(Infinity).filter(Boolean));
  for (const drawPlot of pending) drawPlot();
}

let width = 0;
/** Draws when the page has another width; drawing itself changes only its height. */
function drawIfResized() {
  if (document.documentElement.clientWidth === width) return;
  width = document.documentElement.clientWidth;
  draw();
}

function drawFor(paper) {
  document.documentElement.classList.toggle("paper", paper);
  draw();
}

drawIfResized();
addEventListener("resize", drawIfResized);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
addEventListener("beforeprint", () => drawFor(true));
addEventListener("afterprint", () => drawFor(false));
