// SPDX-License-Identifier: GPL-2.0-only
// Draws the timelines of a report when they are looked at; all that they show is on the page without it, too.
(() => {
  "use strict";

  const LOOKS = {
    "start": ["--start", []],
    "end": ["--end", [7, 4]],
    "−EAGAIN": ["--again", []],
    "other refusal": ["--refused", [3, 3]],
    "accessed?": ["--young", [9, 3, 3, 3]],
    "direct reclaim": ["--again", []],
    "kswapd": ["--start", [7, 4]],
  };
  const TONES = ["--start", "--again", "--end", "--refused", "--young"];
  const HEIGHT = 130;
  const drawn = new Map();

  const tone = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const element = (name, text, parent) => {
    const made = document.createElement(name);
    made.textContent = text;
    parent.append(made);
    return made;
  };

  const sum = (counts) => counts.reduce((total, count) => total + count, 0);

  // Vertical lines: the findings, and on request where each step began.
  const lines = (marks, steps) => (plot) => {
    const { ctx, bbox } = plot;
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.font = `${11 * ratio}px sans-serif`;
    ctx.textBaseline = "top";
    let free = -Infinity;
    for (const step of steps) {
      const x = plot.valToPos(step.at, "x", true);
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.fillStyle = tone("--rule");
      ctx.fillRect(x, bbox.top, ratio, bbox.height);
      if (x < free) continue;
      ctx.fillStyle = tone("--quiet");
      ctx.fillText(step.number, x + 2 * ratio, bbox.top);
      free = x + 16 * ratio;
    }
    ctx.fillStyle = tone("--fail");
    for (const mark of marks) {
      const x = plot.valToPos(mark.at, "x", true);
      if (x >= bbox.left && x <= bbox.left + bbox.width) ctx.fillRect(x - ratio, bbox.top, 2 * ratio, bbox.height);
    }
    ctx.restore();
  };

  const axes = (unit) => {
    const look = { stroke: tone("--quiet"), grid: { stroke: tone("--grid"), width: 1 }, ticks: { show: false } };
    // uPlot's own labels end after three digits, and a closer look needs seven.
    const values = (_, splits, axis, space, step) => splits.map((split) => split.toFixed(Math.min(7, Math.max(0, 1 - Math.floor(Math.log10(step))))));
    return [{ ...look, size: 30, values, space: 70 }, { ...look, size: 56, space: 28, label: unit, labelSize: 18, labelFont: "12px sans-serif" }];
  };

  // One scenario's charts, all of which show the same span of time.
  class Timeline {
    constructor(place, data) {
      this.place = place;
      this.data = data;
      this.plots = [];
      const times = [...data.edges, ...data.curves.flatMap((curve) => curve.points.map((point) => point[0])), ...data.marks.map((mark) => mark.at), ...data.steps.map((step) => step.at)];
      this.whole = times.length ? [Math.min(...times), Math.max(...times)] : [0, 1];
      if (this.whole[0] === this.whole[1]) this.whole[1] += 1;
      this.range = this.whole;
      this.draw();
    }

    draw() {
      for (const plot of this.plots) plot.destroy();
      this.plots = [];
      this.place.replaceChildren();
      this.place.setAttribute("role", "group");
      this.place.setAttribute("aria-label", `Timeline of ${this.place.dataset.scenario}; the tables below it hold the same as numbers`);
      const tools = element("div", "", this.place);
      tools.className = "tools";
      const tool = (text, change) => element("button", text, tools).addEventListener("click", () => change(...this.range));
      tool("Zoom in", (low, high) => this.show(low + (high - low) / 4, high - (high - low) / 4));
      tool("Zoom out", (low, high) => this.show(low - (high - low) / 2, high + (high - low) / 2));
      tool("Earlier", (low, high) => this.move(-(high - low) / 2));
      tool("Later", (low, high) => this.move((high - low) / 2));
      tool("All", () => this.show(...this.whole));
      const { data } = this;
      const lanes = [
        ...data.subscribers.map((lane) => [`Subscriber ${lane.who}: callbacks per ms`, lane]),
        ...data.tasks.map((lane) => [`${lane.who[0].toUpperCase()}${lane.who.slice(1)}: callbacks per ms in reclaim`, lane]),
      ];
      lanes.forEach(([title, lane], number) => this.lane(title, lane, number === 0));
      if (data.curves.length) this.curves(data.curves, !lanes.length);
      this.show(...this.range);
    }

    // Counts in bins, as rates: bins are narrower around a finding.
    lane(title, { counts }, first) {
      const { edges } = this.data;
      const names = Object.keys(counts);
      const rates = names.map((name) => [...counts[name].map((count, bin) => count / (edges[bin + 1] - edges[bin]) / 1000), null]);
      const series = names.map((name) => {
        const [colour, dash] = LOOKS[name];
        // A start and its end are often one: the end is drawn over a wider line.
        return { label: name, stroke: tone(colour), dash, width: name === "start" ? 3 : 1.5, points: { show: false }, paths: uPlot.paths.stepped({ align: 1 }), value: (_, value) => (value == null ? "–" : value.toPrecision(3)) };
      });
      this.plot(title, [edges, ...rates], series, first, names.map((name) => `${name} ${sum(counts[name])}`).join(", "));
    }

    // Amounts, which are known at some points only.
    curves(curves, first) {
      const times = [...new Set(curves.flatMap((curve) => curve.points.map((point) => point[0])))].sort((a, b) => a - b);
      const columns = curves.map((curve) => {
        const known = new Map(curve.points);
        return times.map((time) => known.get(time) ?? null);
      });
      const series = curves.map((curve, number) => ({ label: curve.name, stroke: tone(TONES[number % TONES.length]), dash: number < TONES.length ? [] : [6, 4], width: 1.5, spanGaps: true, paths: curve.name.startsWith("held") ? uPlot.paths.stepped({ align: 1 }) : undefined, points: { show: true, size: 6 }, value: (_, value) => (value == null ? "–" : `${value.toFixed(1)}`) }));
      this.plot("Memory and swap in MiB, where they were looked at", [times, ...columns], series, first, curves.map((curve) => `${curve.name} ${curve.points.at(-1)[1]} at the end`).join(", "));
    }

    plot(title, columns, series, first, said) {
      element("h5", title, this.place);
      const root = element("div", "", this.place);
      const plot = new uPlot({
        width: Math.max(200, this.place.clientWidth),
        height: HEIGHT,
        cursor: { sync: { key: this.place.dataset.scenario }, drag: { x: true, y: false }, points: { size: 6 } },
        scales: { x: { time: false }, y: { range: (_, low, high) => [Math.min(0, low ?? 0), high > 0 ? high * 1.1 : 1] } },
        axes: axes(),
        series: [{ label: "at, s", value: (_, value) => (value == null ? "–" : value.toFixed(4)) }, ...series],
        hooks: {
          draw: [lines(this.data.marks, first ? this.data.steps : [])],
          setScale: [(changed, key) => {
            if (key === "x" && !this.busy) this.show(changed.scales.x.min, changed.scales.x.max);
          }],
        },
      }, columns, root);
      const canvas = root.querySelector("canvas");
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${title}. ${said}.`);
      this.plots.push(plot);
    }

    move(by) {
      const [low, high] = this.range;
      const most = by < 0 ? Math.max(by, this.whole[0] - low) : Math.min(by, this.whole[1] - high);
      this.show(low + most, high + most);
    }

    show(low, high) {
      low = Math.max(low, this.whole[0]);
      high = Math.min(high, this.whole[1]);
      if (!(high - low > 1e-7)) return;
      this.range = [low, high];
      this.busy = true;
      for (const plot of this.plots) plot.setScale("x", { min: low, max: high });
      // uPlot tells of a new scale a moment later.
      queueMicrotask(() => queueMicrotask(() => { this.busy = false; }));
    }

    // The surroundings of a moment: what the finer bins cover.
    around(at) {
      const reach = (this.whole[1] - this.whole[0]) / 100;
      this.show(at - reach, at + reach);
    }

    resize() {
      const width = Math.max(200, this.place.clientWidth);
      for (const plot of this.plots) if (plot.width !== width) plot.setSize({ width, height: HEIGHT });
    }
  }

  const histogram = (place, durations) => {
    const unit = (power) => {
      const ns = 2 ** power;
      const [size, name] = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]].find(([least]) => ns >= least);
      return `${(ns / size).toPrecision(ns / size >= 100 ? 3 : 2)} ${name}`;
    };
    const powers = durations.map(([power]) => power);
    const look = axes();
    look[0].values = (_, splits) => splits.map((power) => (Number.isInteger(power) ? unit(power) : ""));
    look[0].incrs = [1, 2, 4, 8, 16];
    look[0].space = 60;
    const plot = new uPlot({
      width: Math.max(200, place.clientWidth), height: 180, cursor: { drag: { x: false, y: false } }, axes: look,
      scales: { x: { time: false, range: [powers[0] - 1, powers.at(-1) + 1] }, y: { distr: 3, range: (_, low, high) => [0.5, Math.max(2, high * 2)] } },
      series: [
        { label: "up to", value: (_, power) => (power == null ? "–" : unit(power)) },
        { label: "callbacks", stroke: tone("--start"), fill: tone("--start"), paths: uPlot.paths.bars({ size: [0.7] }), points: { show: false } },
      ],
    }, [powers, durations.map(([, count]) => count)], place);
    const canvas = place.querySelector("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", "How many callbacks took how long; the table below it holds the same as numbers");
    return plot;
  };

  // Figures over days, on the page of the history.
  const series = (place) => {
    const { times, series } = JSON.parse(place.nextElementSibling.textContent);
    const look = axes();
    delete look[0].values;
    // The day is below the hour.
    look[0].size = 46;
    const plot = new uPlot({
      width: Math.max(200, place.clientWidth), height: 180, cursor: { drag: { x: true, y: false } }, axes: look,
      scales: { x: { time: true }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
      series: [{ label: "at" }, ...series.map((one) => ({ label: one.name, stroke: tone(one.tone), width: 1.5, points: { show: true, size: 5 } }))],
    }, [times, ...series.map((one) => one.values)], place);
    const canvas = place.querySelector("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${place.dataset.label}; the latest: ${series.map((one) => `${one.name} ${one.values.at(-1)}`).join(", ")}`);
    return plot;
  };
  const plotted = new Map([...document.querySelectorAll(".series")].map((place) => [place, series(place)]));

  const draw = (scenario) => {
    const place = scenario.querySelector(".charts");
    if (!place || drawn.has(scenario)) return drawn.get(scenario)?.timeline;
    const data = JSON.parse(place.nextElementSibling.textContent);
    const timeline = new Timeline(place, data);
    const bars = scenario.querySelector(".histogram");
    drawn.set(scenario, { timeline, bars, data, plot: bars && data.durations.length ? histogram(bars, data.durations) : null });
    return timeline;
  };

  const reveal = (target) => {
    for (let above = target; above; above = above.parentElement) if (above.tagName === "DETAILS") above.open = true;
  };

  for (const scenario of document.querySelectorAll("details.scenario")) {
    scenario.addEventListener("toggle", () => scenario.open && draw(scenario));
  }
  const follow = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    reveal(target);
    target.scrollIntoView();
  };
  addEventListener("hashchange", follow);
  follow();
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href^='#']");
    if (!link) return;
    const target = document.getElementById(decodeURIComponent(link.hash.slice(1)));
    if (!target) return;
    reveal(target);
    const { mark, at } = link.dataset;
    if (mark === undefined && at === undefined) return;
    const timeline = draw(target.closest("details.scenario"));
    const moment = at === undefined ? timeline?.data.marks.find((one) => String(one.number) === mark)?.at : Number(at);
    if (moment !== undefined) timeline.around(moment);
  });
  addEventListener("resize", () => {
    for (const { timeline, plot, bars } of drawn.values()) {
      timeline.resize();
      plot?.setSize({ width: Math.max(200, bars.clientWidth), height: 180 });
    }
    for (const [place, plot] of plotted) plot.setSize({ width: Math.max(200, place.clientWidth), height: 180 });
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const held of drawn.values()) {
      held.timeline.draw();
      held.plot?.destroy();
      if (held.plot) held.plot = histogram(held.bars, held.data.durations);
    }
    for (const [place, plot] of plotted) {
      plot.destroy();
      plotted.set(place, series(place));
    }
  });
})();
