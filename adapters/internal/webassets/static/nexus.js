// What the pages do beyond their HTML: copy, keep times fresh, draw charts, link steps in the builder. All of it is an
// addition; without script the pages work by forms and links.
(() => {
  "use strict";

  // Copy the text of the element that data-copy names.
  document.addEventListener("click", async (e) => {
    const button = e.target.closest("[data-copy]");
    if (!button) return;
    const from = document.getElementById(button.dataset.copy);
    const say = (text) => {
      const before = button.dataset.label || (button.dataset.label = button.textContent);
      button.textContent = text;
      setTimeout(() => { button.textContent = before; }, 2000);
    };
    try {
      await navigator.clipboard.writeText(from.textContent);
      say("Copied");
    } catch {
      const range = document.createRange();
      range.selectNodeContents(from);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      say("Press Ctrl+C");
    }
  });

  // Ask before what cannot be taken back.
  document.addEventListener("submit", (e) => {
    const question = e.submitter?.dataset.confirm || e.target.dataset.confirm;
    if (question && !confirm(question)) {
      e.preventDefault();
      e.stopImmediatePropagation();
    }
  }, true);

  // A select or a check that sends its form by itself.
  document.addEventListener("change", (e) => {
    if (e.target.matches("[data-submit]")) e.target.form.requestSubmit();
  });

  // Times in words go on being true.
  const units = [[60, "second"], [60, "minute"], [24, "hour"], [30, "day"], [12, "month"], [Infinity, "year"]];
  const words = new Intl.RelativeTimeFormat("en", { numeric: "always" });
  const inWords = (at) => {
    let n = (at - Date.now()) / 1000;
    if (Math.abs(n) < 10) return "just now";
    for (const [size, unit] of units) {
      if (Math.abs(n) < size) return words.format(Math.trunc(n), unit);
      n /= size;
    }
  };
  const refreshTimes = () => {
    for (const t of document.querySelectorAll("time[data-ago]")) {
      const text = inWords(new Date(t.dateTime));
      if (t.textContent !== text) t.textContent = text;
    }
  };
  setInterval(refreshTimes, 15000);

  // So does how long something has gone on that still does.
  const lasted = (ms) => {
    const s = Math.max(Math.floor(ms / 1000), 0), min = Math.floor(s / 60);
    return s < 60 ? `${s} s` : min < 60 ? `${min} min ${s % 60} s` : `${Math.floor(min / 60)} h ${min % 60} min`;
  };
  setInterval(() => {
    for (const e of document.querySelectorAll("[data-since]")) {
      const text = lasted(Date.now() - new Date(e.dataset.since));
      if (e.textContent !== text) e.textContent = text;
    }
  }, 1000);

  // Charts: data-chart holds {x: [unix seconds], series: [{label, values}], kind: "bars" | "line", min, max}.
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const drawn = new Map();
  const draw = (el) => {
    if (!window.uPlot) return;
    drawn.get(el)?.destroy();
    const spec = JSON.parse(el.dataset.chart);
    const strokes = [colour("--accent"), colour("--good")];
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const days = (u, at) => at.map((s) => new Date(s * 1000).toLocaleDateString("en", { day: "numeric", month: "short", timeZone: "UTC" }));
    const series = spec.series.map((s, i) => ({
      label: s.label, stroke: strokes[i], width: spec.kind === "bars" ? 0 : 2,
      fill: spec.kind === "bars" ? strokes[i] : strokes[i] + "22",
      paths: spec.kind === "bars" ? uPlot.paths.bars({ size: [0.36, 26], align: spec.series.length > 1 ? (i ? 1 : -1) : 0 }) : undefined,
      points: { show: spec.kind !== "bars" && spec.x.length < 3 },
    }));
    drawn.set(el, new uPlot({
      width: el.clientWidth, height: el.clientHeight, legend: { show: false }, cursor: { drag: { x: false, y: false } },
      tzDate: (s) => uPlot.tzDate(new Date(s * 1000), "UTC"),
      scales: { x: { time: true }, y: { range: (u, low, high) => [spec.min ?? 0, spec.max ?? Math.max(high * 1.15, 1)] } },
      axes: [{ ...axis, space: 70, size: 30, values: days }, { ...axis, size: 56 }],
      series: [{}, ...series],
    }, [spec.x, ...spec.series.map((s) => s.values)], el));
  };
  const drawAll = () => document.querySelectorAll("[data-chart]").forEach(draw);
  let wait;
  addEventListener("resize", () => { clearTimeout(wait); wait = setTimeout(drawAll, 120); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);

  // The builder's graph: drag from a step to the one that is to wait for it, or choose the one and then the other; the same
  // again takes it away. The server says what comes of it, and what cannot be.
  const link = (from, to) => {
    const send = document.querySelector("#builder [hidden] > button[name=do]");
    if (!send) return;
    send.value = `link-${from}-${to}`;
    send.click();
  };
  const nodeAt = (x, y) => document.elementFromPoint(x, y)?.closest?.("[data-node]");
  let picked = null;
  const unpick = () => {
    picked = null;
    document.querySelectorAll(".dag .picked").forEach((n) => n.classList.remove("picked"));
  };
  const pick = (node) => {
    const n = Number(node.dataset.node), first = picked;
    unpick();
    if (first === null) {
      picked = n;
      node.classList.add("picked");
    } else if (first === n) {
      document.getElementById(`step-${n}-name`)?.focus();
    } else {
      link(first, n);
    }
  };
  let drag = null, dragged = false;
  const endDrag = () => {
    drag?.line?.remove();
    document.querySelectorAll(".dag .target").forEach((n) => n.classList.remove("target"));
    drag = null;
  };
  document.addEventListener("pointerdown", (e) => {
    dragged = false;
    const node = e.target.closest?.("[data-node]");
    if (node && e.isPrimary && e.button === 0) drag = { from: Number(node.dataset.node), x: e.clientX, y: e.clientY };
  });
  document.addEventListener("pointermove", (e) => {
    if (!drag || !e.isPrimary) return;
    if (!drag.line && Math.hypot(e.clientX - drag.x, e.clientY - drag.y) < 6) return;
    const from = document.querySelector(`.dag [data-node="${drag.from}"] rect`), svg = from?.ownerSVGElement;
    if (!svg) return endDrag();
    if (!drag.line?.isConnected) {
      unpick();
      drag.line = document.createElementNS("http://www.w3.org/2000/svg", "path");
      drag.line.setAttribute("class", "edge draft");
      svg.append(drag.line);
    }
    const at = new DOMPoint(e.clientX, e.clientY).matrixTransform(svg.getScreenCTM().inverse()), box = from.getBBox();
    drag.line.setAttribute("d", `M${box.x + box.width / 2} ${box.y + box.height / 2}L${at.x} ${at.y}`);
    const over = nodeAt(e.clientX, e.clientY);
    document.querySelectorAll(".dag .target").forEach((n) => n !== over && n.classList.remove("target"));
    if (over && Number(over.dataset.node) !== drag.from) over.classList.add("target");
  });
  document.addEventListener("pointerup", (e) => {
    if (!drag || !e.isPrimary) return;
    const from = drag.from, over = drag.line && nodeAt(e.clientX, e.clientY);
    dragged = Boolean(drag.line);
    endDrag();
    if (over && Number(over.dataset.node) !== from) link(from, Number(over.dataset.node));
  });
  document.addEventListener("pointercancel", endDrag);
  document.addEventListener("click", (e) => {
    const node = e.target.closest?.("[data-node]");
    if (node && !dragged) pick(node);
    dragged = false;
  });
  document.addEventListener("keydown", (e) => {
    if (e.key === "Escape") { endDrag(); unpick(); }
    const node = e.target.closest?.("[data-node]");
    if (node && (e.key === "Enter" || e.key === " ")) {
      e.preventDefault();
      pick(node);
    }
  });

  // Only the first step's list of agents is whole; the others are filled in from it once they are of interest.
  const fillAgents = (e) => {
    const list = e.target.closest?.("select[data-agents]");
    if (!list) return;
    const whole = [...document.querySelectorAll("select[data-agents]")].reduce((a, b) => b.options.length > a.options.length ? b : a);
    if (list.options.length >= whole.options.length) return;
    const chosen = list.value, copies = [...whole.options].map((o) => new Option(o.text, o.value, false, o.value === chosen));
    list.replaceChildren(...copies);
    list.value = chosen;
  };
  document.addEventListener("pointerdown", fillAgents);
  document.addEventListener("focusin", fillAgents);

  // A look at the draft that was on its way while steps were added or removed would bring back the form from before.
  let stepsUntil = 0;
  document.addEventListener("htmx:config:request", (e) => {
    const source = e.detail.ctx.sourceElement;
    if (source.closest?.("#builder") && source.name === "do") stepsUntil = performance.now() + 5000;
    else if (source.id === "builder" && performance.now() < stepsUntil) e.preventDefault();
  });
  for (const over of ["htmx:after:swap", "htmx:error", "htmx:response:error"]) document.addEventListener(over, () => { stepsUntil = 0; });

  // htmx comes again when a live part's connection ends, but not when it could not be made in the first place.
  for (const failed of ["htmx:error", "htmx:response:error"]) document.addEventListener(failed, (e) => {
    const part = e.detail?.ctx?.sourceElement ?? e.target, from = part.getAttribute?.("hx-sse:connect");
    if (!from || part.waits) return;
    part.waits = setTimeout(() => {
      part.waits = 0;
      if (part.isConnected && !part._htmx?.sse) htmx.ajax("GET", from, { source: part });
    }, 1000 + Math.random() * 2000);
  });

  // The menu of narrow screens closes with Escape and when one looks elsewhere.
  document.addEventListener("keydown", (e) => {
    if (e.key === "Escape") document.querySelectorAll(".bar details[open]").forEach((d) => { d.open = false; d.querySelector("summary").focus(); });
  });
  document.addEventListener("click", (e) => {
    document.querySelectorAll(".bar details[open]").forEach((d) => { if (!d.contains(e.target)) d.open = false; });
  });

  const start = () => { drawAll(); refreshTimes(); };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start); else start();
})();
