"use strict";
// Draws every curve of #drawings into its #plot-<id>. Colours are the style sheet's, so that light and dark follow it.
(function () {
  const { charts, marks } = JSON.parse(document.getElementById("drawings").textContent);
  const PALETTE = 8; // --s0 … --s7
  const HEIGHT = 220;
  const wide = charts.map((chart) => ({ chart, box: document.getElementById("plot-" + chart.id), plot: null }));

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function clock(seconds) {
    const whole = Math.max(0, Math.round(seconds));
    const two = (n) => String(n).padStart(2, "0");
    const hours = Math.floor(whole / 3600);
    return (hours ? hours + ":" : "") + two(Math.floor((whole % 3600) / 60)) + ":" + two(whole % 60);
  }

  function short(value) {
    if (value == null) return "–";
    if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6)) return value.toExponential(1);
    return Number(value.toPrecision(4)).toString();
  }

  // Steps that read well on a clock: 1 s … 30 s, minutes, hours, days.
  const CLOCK_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 432000];

  function line(u, x0, y0, x1, y1, stroke, dash) {
    u.ctx.save();
    u.ctx.beginPath();
    u.ctx.strokeStyle = stroke;
    u.ctx.lineWidth = devicePixelRatio;
    u.ctx.setLineDash(dash.map((n) => n * devicePixelRatio));
    u.ctx.moveTo(x0, y0);
    u.ctx.lineTo(x1, y1);
    u.ctx.stroke();
    u.ctx.restore();
  }

  function drawMarksAndLines(chart) {
    return (u) => {
      const { left, top, width, height } = u.bbox;
      for (const mark of marks[chart.axis]) {
        const x = u.valToPos(mark.x, "x", true);
        if (x < left || x > left + width) continue;
        line(u, x, top, x, top + height, colour(mark.grave ? "--bad" : "--good"), mark.grave ? [] : [4, 4]);
      }
      for (const across of chart.lines) {
        const y = u.valToPos(across.value, "y", true);
        if (y < top || y > top + height) continue;
        line(u, left, y, left + width, y, colour("--quiet"), [6, 4]);
        u.ctx.save();
        u.ctx.fillStyle = colour("--quiet");
        u.ctx.font = 12 * devicePixelRatio + "px system-ui, sans-serif";
        u.ctx.textAlign = "right";
        u.ctx.fillText(across.label + " " + short(across.value), left + width - 4 * devicePixelRatio, y - 4 * devicePixelRatio);
        u.ctx.restore();
      }
    };
  }

  function range(chart) {
    return (u, low, high) => {
      if (low == null) return [0, 1];
      const tops = chart.lines.map((across) => across.value);
      // A line far above the curve would press it flat: only one that is near enough to matter is in the picture.
      const near = tops.filter((value) => value <= high * 4);
      let bottom = chart.from_zero ? Math.min(0, low) : low;
      let top = Math.max(high, ...near);
      if (bottom === top) { bottom -= Math.abs(bottom) * 0.1 || 0.5; top += Math.abs(top) * 0.1 || 0.5; }
      const room = (top - bottom) * 0.07;
      return [chart.from_zero && bottom === 0 ? 0 : bottom - room, top + room];
    };
  }

  function options(chart, width) {
    const elapsed = chart.axis === "elapsed";
    const axis = { stroke: () => colour("--quiet"), grid: { stroke: () => colour("--grid"), width: 1 }, ticks: { stroke: () => colour("--rule"), width: 1 }, font: "12px system-ui, sans-serif" };
    const only = chart.x.length === 1;
    return {
      width,
      height: HEIGHT,
      scales: {
        x: { time: false, range: (u, low, high) => (low === high ? [low - 1, high + 1] : [low, high]) },
        y: { range: range(chart) },
      },
      axes: [
        elapsed
          ? { ...axis, incrs: CLOCK_STEPS, space: 70, values: (u, splits) => splits.map(clock) }
          : { ...axis, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 50000, 100000], values: (u, splits) => splits.map(String) },
        { ...axis, size: 62, values: (u, splits) => splits.map(short) },
      ],
      cursor: { sync: { key: chart.axis }, points: { size: 6 } },
      series: [
        { label: chart.axis_word, value: (u, v) => (v == null ? "–" : elapsed ? clock(v) : String(v)) },
        ...chart.series.map((one) => ({
          label: one.label,
          stroke: () => colour(one.faint ? "--faint" : "--s" + (one.colour % PALETTE)),
          dash: one.colour >= PALETTE ? [6, 3] : undefined,
          width: one.faint ? 1 : 1.75,
          spanGaps: false,
          points: { show: only || chart.x.length < 25, size: 5, fill: () => colour("--s" + (one.colour % PALETTE)) },
          value: (u, v) => short(v),
        })),
      ],
      hooks: { draw: [drawMarksAndLines(chart)] },
    };
  }

  function draw(entry) {
    const width = Math.floor(entry.box.clientWidth);
    if (!width) return;
    if (entry.plot) entry.plot.destroy();
    entry.plot = new uPlot(options(entry.chart, width), [entry.chart.x, ...entry.chart.series.map((one) => one.values)], entry.box);
    entry.width = width;
  }

  wide.forEach(draw);
  // Only a new width is a reason to draw again: the legend changes the height as the pointer moves.
  const watched = new ResizeObserver((changes) => {
    for (const change of changes) {
      const entry = wide.find((one) => one.box === change.target);
      if (Math.floor(entry.box.clientWidth) !== entry.width) draw(entry);
    }
  });
  wide.forEach((entry) => watched.observe(entry.box));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => wide.forEach(draw));

  // A log is read from its end: what ended the run stands there.
  const log = document.querySelector("pre[aria-labelledby=log]");
  const toItsEnd = () => { log.scrollTop = log.scrollHeight; };
  if (log) {
    toItsEnd();
    log.parentElement.addEventListener("toggle", toItsEnd);
  }
})();
